//! What travels: headers, sizes, secrets.

use crate::support::*;
use ambit_egress::{EgressError, Timeouts};
use ambit_policy::Limits;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use std::time::Duration;

const SECRET_GRANT: &str = r#"
    http = [{ origin = "http://127.0.0.1:*", methods = ["GET"] }, { origin = "http://localhost:*", methods = ["GET"] }]
    secrets = [{ name = "token", header = "authorization", origin = "http://127.0.0.1:*" }]
"#;
const SECRET: &str = "tok-0123456789abcdef";

#[tokio::test]
async fn headers_of_the_connection_are_ours() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nconnection: x-hop, close\r\nx-hop: 1\r\nkeep-alive: 5\r\nx-end: 2\r\ncontent-length: 5\r\n\r\nhello").await;
    let egress = egress(Stage::new(&[&["93.184.216.34"]], server.address));
    let request = Request::post("http://a.example/x")
        .header("host", "internal.example")
        .header("connection", "close, x-secret-hop")
        .header("x-secret-hop", "1")
        .header("transfer-encoding", "chunked")
        .header("upgrade", "websocket")
        .header("proxy-authorization", "Basic eA==")
        .header("x-forwarded-for", "10.0.0.1")
        .header("te", "trailers")
        .header("x-kept", "yes")
        .body(Full::new(Bytes::from_static(b"body")))
        .unwrap();
    let answer = egress
        .send(
            &scope(origin("http://a.example")),
            request,
            Timeouts::default(),
        )
        .await
        .unwrap();
    let mut names: Vec<_> = answer
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x-end"]);
    let request = server.requests()[0].to_lowercase();
    let mut lines: Vec<_> = request
        .split("\r\n")
        .filter(|line| !line.is_empty() && *line != "body")
        .collect();
    lines[1..].sort_unstable();
    let agent = concat!("user-agent: ambit/", env!("CARGO_PKG_VERSION"));
    assert!(
        lines.starts_with(&[
            "post /x http/1.1",
            "content-length: 4",
            "host: a.example",
            agent,
            "x-kept: yes"
        ]),
        "{lines:?}"
    );
}

#[tokio::test]
async fn one_request_is_never_two() {
    // The types refuse line breaks, and the URL that is sent is written from the checked one.
    assert!(http::HeaderValue::from_bytes(b"a\r\nx: y").is_err());
    assert!("http://a.example/\r\nx: y".parse::<http::Uri>().is_err());
    let server = Server::answering(HELLO).await;
    let stage = Stage::new(&[&["93.184.216.34"]], server.address);
    let (egress, scope) = (egress(stage.clone()), scope(origin("http://a.example")));
    for lengths in [
        &["5", "6"] as &[&str],
        &["5, 5"],
        &["+5"],
        &["-1"],
        &[""],
        &["0x5"],
    ] {
        let mut request = get("http://a.example/");
        for length in lengths {
            request
                .headers_mut()
                .append("content-length", length.parse().unwrap());
        }
        let result = egress.send(&scope, request, Timeouts::default()).await;
        assert!(
            matches!(result, Err(EgressError::Invalid(_))),
            "{lengths:?}"
        );
    }
    for method in ["CONNECT", "TRACE", "get", "GET\tX", "DELETE"] {
        let Ok(method) = http::Method::from_bytes(method.as_bytes()) else {
            continue;
        };
        let mut request = get("http://a.example/");
        *request.method_mut() = method;
        assert!(
            egress
                .send(&scope, request, Timeouts::default())
                .await
                .is_err()
        );
    }
    send(&egress, &scope, "http://a.example/%0d%0ax:%20y?z=%0d%0a")
        .await
        .unwrap();
    assert_eq!(server.requests().len(), 1);
    assert!(server.requests()[0].starts_with("GET /%0d%0ax:%20y?z=%0d%0a HTTP/1.1\r\n"));
}

#[tokio::test]
async fn sizes_are_bounded() {
    let ambit = origin("http://a.example");
    let limited = |egress| {
        scope_with(
            ambit.clone(),
            &Limits::default(),
            egress,
            Duration::from_secs(5),
        )
    };
    let head = "HTTP/1.1 200 OK\r\n\r\n".to_owned();
    // Without a length the body ends when the limit does.
    let server = Server::answering(&(head.clone() + &"x".repeat(5000))).await;
    let egress_ = egress(Stage::new(&[&["93.184.216.34"]], server.address));
    let answer = send(&egress_, &limited(1000), "http://a.example/")
        .await
        .unwrap();
    assert_eq!(text(answer).await.err(), Some(EgressError::Spent));
    let answer = send(&egress_, &limited(6000), "http://a.example/")
        .await
        .unwrap();
    assert_eq!(text(answer).await.unwrap().len(), 5000);
    // Requests are charged too, before anything is sent; two exchanges share one limit.
    let body = Request::post("http://a.example/")
        .body(Full::new(Bytes::from(vec![b'x'; 5000])))
        .unwrap();
    assert_eq!(
        egress_
            .send(&limited(1000), body, Timeouts::default())
            .await
            .err(),
        Some(EgressError::Spent)
    );
    assert_eq!(
        send(&egress_, &limited(10), "http://a.example/")
            .await
            .err(),
        Some(EgressError::Spent)
    );
    let shared = limited(6000);
    assert!(
        text(send(&egress_, &shared, "http://a.example/").await.unwrap())
            .await
            .is_ok()
    );
    assert_eq!(
        text(send(&egress_, &shared, "http://a.example/").await.unwrap())
            .await
            .err(),
        Some(EgressError::Spent)
    );

    // A header that never ends, and more headers than anybody needs.
    for headers in [
        format!("x: {}", "y".repeat(100_000)),
        "x: y\r\n".repeat(200),
    ] {
        let server = Server::answering(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\nhello")).await;
        let egress = egress(Stage::new(&[&["93.184.216.34"]], server.address));
        assert_eq!(
            send(&egress, &limited(1 << 20), "http://a.example/")
                .await
                .err(),
            Some(EgressError::Protocol)
        );
    }
    let long = format!("http://a.example/{}", "x".repeat(9000));
    assert!(matches!(
        send(&egress_, &limited(1 << 20), &long).await,
        Err(EgressError::Invalid(_))
    ));
}

#[tokio::test]
async fn nonsense_is_a_protocol_error() {
    for answer in [
        "",
        "hello",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        "HTTP/2 200\r\n\r\n",
    ] {
        let server = Server::answering(answer).await;
        let egress = egress(Stage::new(&[&["93.184.216.34"]], server.address));
        let result = send(
            &egress,
            &scope(origin("http://a.example")),
            "http://a.example/",
        )
        .await;
        assert_eq!(result.err(), Some(EgressError::Protocol), "{answer:?}");
    }
    // A body shorter than promised is an error, not a short success.
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello").await;
    let egress = egress(Stage::new(&[&["93.184.216.34"]], server.address));
    let answer = send(
        &egress,
        &scope(origin("http://a.example")),
        "http://a.example/",
    )
    .await
    .unwrap();
    assert_eq!(text(answer).await.err(), Some(EgressError::Protocol));
}

/// A scope with the secret, its placeholder, a server and its URL.
async fn secret_stage(answer: &str) -> (ambit_egress::Egress, ambit_egress::Scope, String, Server) {
    let server = Server::answering(answer).await;
    let (scope, placeholder) = with_secret(scope(grant(SECRET_GRANT)), "token", SECRET);
    (
        egress(Stage::new(&[], server.address)),
        scope,
        placeholder,
        server,
    )
}

#[tokio::test]
async fn a_secret_is_swapped_in_at_the_agreed_place() {
    let (egress, scope, placeholder, server) = secret_stage(HELLO).await;
    assert!(!placeholder.contains(SECRET) && !format!("{placeholder:?}").contains(SECRET));
    let url = format!("http://127.0.0.1:{}/", server.address.port());
    let mut request = get(&url);
    request.headers_mut().insert(
        "authorization",
        format!("Bearer {placeholder}").parse().unwrap(),
    );
    egress
        .send(&scope, request, Timeouts::default())
        .await
        .unwrap();
    let sent = &server.requests()[0];
    assert!(
        sent.contains(&format!("authorization: Bearer {SECRET}\r\n"))
            && !sent.contains(&placeholder),
        "{sent}"
    );
    assert!(sent.contains("accept-encoding: identity\r\n"), "{sent}");

    // Elsewhere the placeholder refuses the request: another header, another origin, granted or not.
    for (header, host) in [
        ("x-copy", "127.0.0.1"),
        ("authorization", "localhost"),
        ("cookie", "127.0.0.1"),
    ] {
        let mut request = get(&format!("http://{host}:{}/", server.address.port()));
        request
            .headers_mut()
            .insert(header, placeholder.parse().unwrap());
        let result = egress.send(&scope, request, Timeouts::default()).await;
        let Err(EgressError::Denied(denied)) = result else {
            panic!("{header} {host}")
        };
        assert!(
            !denied.to_string().contains(SECRET) && !denied.to_string().contains(&placeholder),
            "{denied}"
        );
    }
    // In path and body it is a text like any other, worth nothing.
    send(&egress, &scope, &format!("{url}{placeholder}"))
        .await
        .unwrap();
    assert!(
        !server
            .requests()
            .iter()
            .skip(1)
            .any(|request| request.contains(SECRET))
    );
}

#[tokio::test]
async fn an_answer_never_holds_the_secret() {
    let body = format!("you sent {SECRET}, thank you");
    for answer in [
        format!("HTTP/1.1 200 OK\r\nx-echo: {SECRET}\r\ncontent-length: 0\r\n\r\n"),
        format!(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/?t={SECRET}\r\ncontent-length: 0\r\n\r\n"
        ),
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n".to_owned(),
        // A part of it, asked for or not.
        format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-9/20\r\ncontent-length: 10\r\n\r\n{}",
            &SECRET[..10]
        ),
    ] {
        let (egress, scope, _, server) = secret_stage(&answer).await;
        let result = send(
            &egress,
            &scope,
            &format!("http://127.0.0.1:{}/", server.address.port()),
        )
        .await;
        assert_eq!(result.err(), Some(EgressError::SecretEchoed), "{answer}");
    }
    // In the body, split at every place, plain and chunked.
    for split in 0..body.len() {
        let (first, second) = body.split_at(split);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{first}",
            body.len()
        );
        let mut pieces: Vec<Bytes> =
            vec!["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into()];
        pieces.extend(body.as_bytes().chunks(1 + split).map(|piece| {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            Bytes::from(chunk)
        }));
        for script in [
            vec![head.into(), Bytes::copy_from_slice(second.as_bytes())],
            pieces,
        ] {
            let server = Server::start(vec![script], Duration::from_micros(200)).await;
            let (scope, _) = with_secret(scope(grant(SECRET_GRANT)), "token", SECRET);
            let egress = egress(Stage::new(&[], server.address));
            let answer = send(
                &egress,
                &scope,
                &format!("http://127.0.0.1:{}/", server.address.port()),
            )
            .await
            .unwrap();
            let (seen, error) = collect(answer).await;
            assert_eq!(error, Some(EgressError::SecretEchoed), "split at {split}");
            assert!("you sent ".starts_with(&seen), "split at {split}: {seen}");
        }
    }
}

#[tokio::test]
async fn parts_are_asked_for_only_where_no_secret_could_be_put_together() {
    let (egress, with_secret, _, server) = secret_stage(HELLO).await;
    let ranged = || {
        let mut request = get(&format!("http://127.0.0.1:{}/", server.address.port()));
        for (name, value) in [("range", "bytes=0-9"), ("if-range", "\"a\"")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let without = scope(grant(SECRET_GRANT));
    for (scope, asked) in [(with_secret, false), (without, true)] {
        let answer = egress.send(&scope, ranged(), Timeouts::default()).await;
        assert_eq!(text(answer.unwrap()).await.unwrap(), "hello");
        let sent = server.requests().pop().unwrap();
        assert_eq!(sent.contains("range: "), asked, "{sent}");
    }
}

/// What was delivered before the end or the error.
async fn collect(
    answer: http::Response<ambit_egress::ResponseBody>,
) -> (String, Option<EgressError>) {
    use http_body_util::BodyExt as _;
    let mut body = answer.into_body();
    let mut seen = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => seen.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
            Err(error) => return (seen, Some(error)),
        }
    }
    (seen, None)
}

#[tokio::test]
async fn an_answer_without_the_secret_is_delivered_whole() {
    let almost = format!("{}? {}", &SECRET[..SECRET.len() - 1], &SECRET[..5]);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{almost}",
        almost.len()
    );
    let (egress, scope, _, server) = secret_stage(&answer).await;
    let answer = send(
        &egress,
        &scope,
        &format!("http://127.0.0.1:{}/", server.address.port()),
    )
    .await
    .unwrap();
    assert_eq!(collect(answer).await, (almost, None));
}
