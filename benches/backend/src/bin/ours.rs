//! The service on maniple: diesel and redis, unmodified, and a client for the other service, asked at once.

use diesel::{PgConnection, prelude::*, r2d2::ConnectionManager, sql_query, sql_types};
use maniple::{Runtime, try_join};
use maniple_backend::{CONNECTIONS, Places, QUERY, Told, WORKERS};
use maniple_parts::connections::{Connections, R2d2};
use maniple_server::{Client, Json, Request, Router, Server, StatusCode};

#[derive(QueryableByName)]
struct Item {
    #[diesel(sql_type = sql_types::Text)]
    name: String,
    #[diesel(sql_type = sql_types::Integer)]
    price: i32,
}

struct Backends {
    database: Connections<R2d2<ConnectionManager<PgConnection>>>,
    cache: Connections<R2d2<redis::Client>>,
    quotes: (Client, String),
}

impl Backends {
    fn show(&self, id: i32) -> anyhow::Result<Told> {
        let (item, stock, quote) = try_join!(self.item(id), self.stock(id), self.quote(id))?;
        Ok(Told {
            name: item.name,
            price: item.price,
            stock,
            quote,
        })
    }

    fn item(&self, id: i32) -> anyhow::Result<Item> {
        let asked = sql_query(QUERY).bind::<sql_types::Integer, _>(id);
        Ok(asked.get_result(&mut *self.database.get()?)?)
    }

    fn stock(&self, id: i32) -> anyhow::Result<i32> {
        let mut asked = redis::cmd("GET");
        Ok(asked
            .arg(format!("stock:{id}"))
            .query(&mut *self.cache.get()?)?)
    }

    fn quote(&self, id: i32) -> anyhow::Result<String> {
        let (client, place) = &self.quotes;
        Ok(client.get(&format!("{place}/quotes/{id}"))?.text()?)
    }
}

fn main() -> anyhow::Result<()> {
    maniple_hook::install!();
    let places = Places::given();
    Runtime::builder().workers(WORKERS).build()?.run(|| {
        let database = R2d2::new(ConnectionManager::new(&places.database));
        let cache = R2d2::new(redis::Client::open(places.cache.as_str())?);
        let backends = Backends {
            database: Connections::builder(database).max(CONNECTIONS).build()?,
            cache: Connections::builder(cache).max(CONNECTIONS).build()?,
            quotes: (Client::new(), places.quotes),
        };
        let show = move |request: &mut Request| {
            let id = request.param("id").and_then(|id| id.parse().ok());
            let id = id.ok_or(StatusCode::BAD_REQUEST)?;
            backends
                .show(id)
                .map(Json)
                .map_err(|_| StatusCode::BAD_GATEWAY)
        };
        Server::builder(Router::new().get("/items/{id}", show))
            .bind(&places.own)?
            .serve()?;
        Ok(())
    })
}
