//! Forms with files.

use std::io::Read;

use maniple_server::{
    Problem, Request, Router,
    extract::{Multipart, Upload},
};

/// A form of those parts: name, file name, data.
fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Request {
    let mut body = Vec::new();
    for (name, file_name, data) in parts {
        let file_name = file_name.map_or(String::new(), |name| format!("; filename=\"{name}\""));
        let head = format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"{file_name}\r\nContent-Type: text/plain\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x--\r\n");
    Request::for_test("POST", "/")
        .with_header("content-type", "multipart/form-data; boundary=x")
        .with_body(body)
}

fn answer(router: &Router, mut request: Request) -> (u16, String) {
    let answer = router.answer(&mut request);
    (answer.status().as_u16(), answer.into_text().unwrap())
}

fn whole() -> Router {
    Router::new().post("/", |mut form: Multipart| {
        let title = form.text("title").unwrap_or("-").to_owned();
        let mut told = title;
        for name in ["small", "large"] {
            let Some(file) = form.file(name) else {
                continue;
            };
            let mut data = Vec::new();
            file.read_to_end(&mut data).unwrap();
            assert_eq!(data.len() as u64, file.length());
            let is_as_sent = data.iter().enumerate().all(|(at, byte)| *byte == at as u8);
            told += &format!(
                " {}:{}:{}:{is_as_sent}",
                file.file_name(),
                file.length(),
                file.is_on_disk()
            );
        }
        told + &format!(" {} {}", form.fields().count(), form.into_files().len())
    })
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| at as u8).collect()
}

#[test]
fn a_form_has_fields_in_memory_and_large_files_on_disk() {
    let (small, large) = (data(64 * 1024), data(300_000));
    let request = form(&[
        ("title", None, b"two files"),
        ("small", Some("s.txt"), &small),
        ("large", Some("../l.txt"), &large),
        ("empty", Some("e"), b""),
    ]);
    let expected = "two files s.txt:65536:false:true l.txt:300000:true:true 1 3".to_owned();
    assert_eq!(answer(&whole(), request), (200, expected.clone()));
}

#[test]
fn what_is_no_form_is_refused() {
    let router = whole();
    let json = Request::for_test("POST", "/").with_header("content-type", "application/json");
    assert_eq!(answer(&router, json).0, 415);
    let unbounded =
        Request::for_test("POST", "/").with_header("content-type", "multipart/form-data");
    let (status, text) = answer(&router, unbounded);
    assert_eq!(
        (status, &*text),
        (
            400,
            "content-type: a body of type multipart/form-data has a boundary\n"
        )
    );
    let cut = Request::for_test("POST", "/")
        .with_header("content-type", "multipart/form-data; boundary=x")
        .with_body("--x\r\nContent-Disposition: form-data; name=a\r\n\r\nabc");
    let (status, text) = answer(&router, cut);
    assert_eq!(
        (status, &*text),
        (400, "the form ends before its last boundary\n")
    );
    let field = form(&[("title", None, &data(1024 * 1024 + 1))]);
    let (status, text) = answer(&router, field);
    assert_eq!(
        (status, &*text),
        (413, "title: larger than 1048576 bytes\n")
    );
    let many: Vec<_> = (0..1001).map(|_| ("a", None, &b""[..])).collect();
    assert_eq!(answer(&router, form(&many)).0, 413);
    assert_eq!(answer(&router, form(&many[..1000])).0, 200);
}

#[test]
fn parts_are_read_as_they_come_and_what_is_left_of_one_is_passed_over() {
    fn some(request: &mut Request) -> Result<String, Problem> {
        let mut parts = request.multipart()?.max_parts(3);
        let mut told = String::new();
        while let Some(mut part) = parts.next_part()? {
            let (name, kind) = (
                part.name().to_owned(),
                part.content_type().map(str::to_owned),
            );
            let mut first = [0; 3];
            let count = part.read(&mut first).unwrap();
            told += &format!(
                "{name} {kind:?} {:?} {:?};",
                part.file_name(),
                &first[..count]
            );
        }
        assert!(parts.next_part()?.is_none(), "and there are no more");
        Ok(told)
    }
    let router = Router::new().post("/", some);
    let large = data(100_000);
    let parts: [(&str, Option<&str>, &[u8]); 3] = [
        ("a", Some("f"), &large),
        ("b", None, b""),
        ("c", None, b"xyz!"),
    ];
    let expected = "a Some(\"text/plain\") Some(\"f\") [0, 1, 2];b Some(\"text/plain\") None [];\
                    c Some(\"text/plain\") None [120, 121, 122];";
    assert_eq!(answer(&router, form(&parts)), (200, expected.to_owned()));
    let four = [parts[1], parts[1], parts[1], parts[1]];
    assert_eq!(answer(&router, form(&four)).0, 413);
}

#[test]
fn an_upload_may_go_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Upload>();
    is_send::<Multipart>();
}
