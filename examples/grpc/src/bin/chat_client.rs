//! Each method once: `cargo run -p maniple-example-grpc --bin chat_client -- 127.0.0.1:50051`. Ends with "all is well".

use std::{error::Error, time::Duration};

use maniple_example_grpc::chat::{ChatClient, Empty, Line};
use maniple_grpc::{Channel, Code, Metadata};

fn line(text: &str, number: u32) -> Line {
    Line {
        text: text.to_owned(),
        number,
        payload: Vec::new(),
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    maniple::run(|| {
        for compress in [false, true] {
            all(ChatClient::new(Channel::to(&*address).compress(compress)))?;
        }
        println!("all is well");
        Ok(())
    })
}

fn all(client: ChatClient) -> Result<(), Box<dyn Error + Send + Sync>> {
    // One message each way, empty, large, and with fields.
    client.nothing(&Empty {})?;
    let large = Line {
        payload: vec![7; 300_000],
        ..line("large", 0)
    };
    assert_eq!(*client.echo(&large)?, large);
    let mut metadata = Metadata::new();
    assert!(metadata.insert("x-echo-initial", "test_initial_metadata_value"));
    assert!(metadata.insert_bytes("x-echo-trailing-bin", &[0xab, 0xab, 0xab]));
    let reply = client.with_metadata(metadata).echo(&line("fields", 0))?;
    assert_eq!(
        reply.headers().get("x-echo-initial"),
        Some("test_initial_metadata_value")
    );
    let bytes = reply.trailers().get_bytes("x-echo-trailing-bin");
    assert_eq!(bytes, Some(vec![0xab, 0xab, 0xab]));

    // Errors, with whatever words.
    for words in [
        "test status message",
        "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n",
    ] {
        let error = client.echo(&line(words, 2)).unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, words));
    }

    // Streams of each kind.
    let repeated: Result<Vec<_>, _> = client.repeat(&line("again", 500))?.collect();
    let numbers = repeated?.into_iter().map(|line| line.number);
    assert!(numbers.eq(0..500));
    assert_eq!(client.repeat(&line("never", 0))?.count(), 0);
    let mut joining = client.join()?;
    for word in ["one", "two", "three"] {
        joining.send(&line(word, 0))?;
    }
    let joined = joining.finish()?;
    assert_eq!((joined.text.as_str(), joined.number), ("onetwothree", 3));
    let (mut out, mut replies) = client.talk()?;
    for number in 0..100 {
        out.send(&line("ping", number))?;
        assert_eq!(replies.next().transpose()?, Some(line("ping", number)));
    }
    out.finish()?;
    assert!(replies.next().is_none());
    let (out, mut replies) = client.talk()?;
    out.finish()?;
    assert!(replies.next().is_none());

    // Too late, and given up.
    let late = maniple::timeout(Duration::from_millis(50), || {
        client.wait(&line("late", 10_000)).unwrap_err().code()
    });
    assert_eq!(
        late.unwrap_or(Code::DeadlineExceeded),
        Code::DeadlineExceeded
    );
    let (mut out, mut replies) = client.talk()?;
    out.send(&line("ping", 1))?;
    assert!(replies.next().is_some_and(|reply| reply.is_ok()));
    drop((out, replies));
    client.nothing(&Empty {})?;
    Ok(())
}
