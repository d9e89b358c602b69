//! Files that are served and kept in a simulated world: those of the server's host.

use std::{io::Read, sync::Arc, time::Duration};

use maniple::{sim, sync::Mutex};
use maniple_server::{
    Client, Files, Router, StatusCode,
    client::Form,
    extract::{Multipart, Upload},
};

use super::serve;

#[test]
fn files_of_the_servers_host_are_served_and_their_versions_told_apart() {
    sim::check(sim::seeds(200), |world| {
        let handles = Arc::new(Mutex::new(Vec::new()));
        let left = handles.clone();
        let api = world.host("api", move || {
            let router = Router::new().files("/", Files::new("/srv"));
            serve(router, &left);
        });
        let large: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        api.place_file("/srv/large", &large).unwrap();
        api.place_file("/srv/a/index.html", "hello").unwrap();
        api.place_file("/secret", "not below").unwrap();
        world.settle();
        let client = Client::new();
        let get = |path: &str| {
            let answer = client.get(&format!("http://api/{path}")).unwrap();
            let (status, tag) = (answer.status(), answer.header("etag").map(str::to_owned));
            (status, tag, answer.bytes().unwrap())
        };
        assert!(get("large").2 == large);
        let (status, tag, text) = get("a/");
        assert_eq!((status, &text[..]), (StatusCode::OK, &b"hello"[..]));
        assert_eq!(get("secret").0, StatusCode::NOT_FOUND);
        assert_eq!(get("a/index.html/x").0, StatusCode::NOT_FOUND);
        api.place_file("/srv/a/index.html", "other").unwrap();
        maniple::sleep(Duration::from_secs(3));
        let (_, new_tag, text) = get("a/");
        assert_eq!(&text[..], b"other");
        sim::always!(tag != new_tag);
        let shortage = world.shortage("api").disk(1.0);
        maniple::sleep(Duration::from_secs(3));
        assert_eq!(get("large").0, StatusCode::INTERNAL_SERVER_ERROR);
        drop(shortage);
        assert!(get("large").2 == large);
        drop(client);
        handles.lock()[0].drain();
    });
}

#[test]
fn uploads_are_kept_on_the_servers_disk_and_refused_when_that_is_full() {
    sim::check(sim::seeds(60), |world| {
        let handles = Arc::new(Mutex::new(Vec::new()));
        let left = handles.clone();
        let api = world.host("api", move || {
            let router = Router::new().post("/", |mut form: Multipart| {
                let file: &mut Upload = form.file("file").unwrap();
                assert!(file.is_on_disk());
                let mut all = Vec::new();
                file.read_to_end(&mut all).unwrap();
                format!("{} {}", all.len(), all.iter().all(|&byte| byte == 7))
            });
            serve(router, &left);
        });
        api.set_disk_size(300_000);
        maniple::fs::write("/photo", vec![7; 200_000]).unwrap();
        world.settle();
        let client = Client::new();
        let post = |bytes: usize| {
            maniple::fs::write("/photo", vec![7; bytes]).unwrap();
            let form = Form::new().file("file", "/photo", "image/png").unwrap();
            let answer = client.post("http://api/").form(form).send().unwrap();
            (answer.status(), answer.text().unwrap())
        };
        // What is over leaves its room to the next.
        for _ in 0..3 {
            assert_eq!(post(200_000), (StatusCode::OK, "200000 true".to_owned()));
        }
        assert_eq!(post(400_000).0, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(post(200_000).0, StatusCode::OK);
        drop(client);
        handles.lock()[0].drain();
    });
}
