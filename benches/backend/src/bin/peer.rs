//! The service on axum: sqlx, deadpool-redis and reqwest, asked at once.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use deadpool_redis::{Runtime, redis};
use maniple_backend::{CONNECTIONS, Places, QUERY, Told, WORKERS};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::sync::Arc;

#[derive(sqlx::FromRow)]
struct Item {
    name: String,
    price: i32,
}

struct Backends {
    database: PgPool,
    cache: deadpool_redis::Pool,
    quotes: (reqwest::Client, String),
}

impl Backends {
    async fn show(&self, id: i32) -> anyhow::Result<Told> {
        let (item, stock, quote) = tokio::try_join!(
            async {
                let asked = sqlx::query_as(QUERY).bind(id);
                let item: Item = asked.fetch_one(&self.database).await?;
                anyhow::Ok(item)
            },
            async {
                let mut cache = self.cache.get().await?;
                let mut asked = redis::cmd("GET");
                let stock: i32 = asked
                    .arg(format!("stock:{id}"))
                    .query_async(&mut cache)
                    .await?;
                Ok(stock)
            },
            async {
                let (client, place) = &self.quotes;
                let quote = client.get(format!("{place}/quotes/{id}")).send().await?;
                Ok(quote.text().await?)
            }
        )?;
        Ok(Told {
            name: item.name,
            price: item.price,
            stock,
            quote,
        })
    }
}

async fn show(
    State(backends): State<Arc<Backends>>,
    Path(id): Path<i32>,
) -> Result<Json<Told>, StatusCode> {
    backends
        .show(id)
        .await
        .map(Json)
        .map_err(|_| StatusCode::BAD_GATEWAY)
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let places = Places::given();
    runtime.block_on(async {
        let database = PgPoolOptions::new().max_connections(CONNECTIONS as u32);
        let mut cache = deadpool_redis::Config::from_url(&places.cache);
        cache.pool = Some(deadpool_redis::PoolConfig::new(CONNECTIONS));
        let backends = Backends {
            database: database.connect(&places.database).await?,
            cache: cache.create_pool(Some(Runtime::Tokio1))?,
            quotes: (reqwest::Client::new(), places.quotes),
        };
        let router = Router::new()
            .route("/items/{id}", get(show))
            .with_state(Arc::new(backends));
        let listener = tokio::net::TcpListener::bind(&places.own).await?;
        Ok(axum::serve(listener, router).await?)
    })
}
