//! Where a request may go: names, addresses, redirects, and the ways people have found round such checks.

use crate::support::*;
use ambit_egress::{Connections, EgressError, Phase, Timeouts};
use ambit_policy::{Limits, Permissions};
use std::time::Duration;
use url::Url;

#[tokio::test]
async fn a_granted_name_is_resolved_once_and_pinned() {
    let server = Server::answering(HELLO).await;
    // The second answer is where a rebinding attack would lead.
    let stage = Stage::new(&[&["93.184.216.34"], &["127.0.0.1"]], server.address);
    let (egress, scope) = (egress(stage.clone()), scope(origin("http://a.example:*")));
    let answer = send(&egress, &scope, "http://A.example.:8080/x?q=1#fragment")
        .await
        .unwrap();
    assert_eq!(text(answer).await.unwrap(), "hello");
    assert_eq!(
        (stage.lookups(), stage.dialled()),
        (
            vec!["a.example".to_owned()],
            vec!["93.184.216.34:8080".to_owned()]
        )
    );
    let request = &server.requests()[0];
    assert!(
        request.starts_with("GET /x?q=1 HTTP/1.1\r\n")
            && request.contains("\r\nhost: a.example:8080\r\n"),
        "{request}"
    );

    let rebound = send(&egress, &scope, "http://a.example:8080/")
        .await
        .unwrap_err();
    assert_eq!(rebound, EgressError::Unreachable { blocked: true });
    assert_eq!((stage.dialled().len(), server.requests().len()), (1, 1));
}

#[tokio::test]
async fn one_address_that_is_not_public_refuses_all() {
    let server = Server::answering(HELLO).await;
    for answer in [
        &["169.254.169.254"] as &[&str],
        &["93.184.216.34", "10.0.0.1"],
        &["93.184.216.34", "::1"],
        &["::ffff:93.184.216.34"],
        &["64:ff9b::5db8:d822"],
        &["2002:7f00:1::"],
        &["fd00:ec2::254"],
        &["100.100.100.200"],
        &["0.0.0.0"],
    ] {
        let stage = Stage::new(&[answer], server.address);
        let error = send(
            &egress(stage.clone()),
            &scope(origin("http://a.example")),
            "http://a.example/",
        )
        .await
        .unwrap_err();
        assert_eq!(
            error,
            EgressError::Unreachable { blocked: true },
            "{answer:?}"
        );
        assert!(stage.dialled().is_empty());
        // The guest cannot tell a private name from one that does not exist.
        assert_eq!(
            error.to_string(),
            EgressError::Unreachable { blocked: false }.to_string()
        );
    }
    let none = Stage::new(&[&[]], server.address);
    let error = send(
        &egress(none),
        &scope(origin("http://a.example")),
        "http://a.example/",
    )
    .await
    .unwrap_err();
    assert_eq!(error, EgressError::Unreachable { blocked: false });
}

#[tokio::test]
async fn tricks_with_the_url_reach_nothing() {
    let server = Server::answering(HELLO).await;
    let wide = grant(
        "http = [{ origin = \"http://*:*\", methods = [\"GET\"] }, { origin = \"https://*\", methods = [\"GET\"] }]",
    );
    for uri in [
        "http://127.0.0.1/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost/",
        "http://LocalHost./",
        "http://a.localhost/",
        "http://granted.example@127.0.0.1/",
        "http://granted.example:80@evil.example/",
        "http://a.example../",
        "http://a.example:0x50/",
        "/relative",
        "ftp://a.example/",
        "file:///etc/passwd",
    ] {
        let Ok(uri) = uri.parse::<http::Uri>() else {
            continue;
        };
        let stage = Stage::new(&[&["93.184.216.34"]], server.address);
        let result = send(
            &egress(stage.clone()),
            &scope(wide.clone()),
            &uri.to_string(),
        )
        .await;
        assert!(
            matches!(
                result,
                Err(EgressError::Denied(_) | EgressError::Invalid(_))
            ),
            "{uri}"
        );
        assert!(
            stage.dialled().is_empty() && stage.lookups().is_empty(),
            "{uri}"
        );
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_homograph_is_another_name() {
    let server = Server::answering(HELLO).await;
    let stage = Stage::new(&[&["93.184.216.34"]], server.address);
    // Cyrillic а; a guest that is a browser would show it as apple.example.
    let lookalike = Url::parse("http://\u{430}pple.example/").unwrap();
    let result = send(
        &egress(stage.clone()),
        &scope(origin("http://apple.example")),
        lookalike.as_str(),
    )
    .await;
    assert!(matches!(result, Err(EgressError::Denied(_))) && stage.lookups().is_empty());
}

#[tokio::test]
async fn a_granted_address_in_a_blocked_range_stays_blocked() {
    let server = Server::answering(HELLO).await;
    for host in [
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[fd00::1]",
    ] {
        let stage = Stage::new(&[&["93.184.216.34"]], server.address);
        let host = format!("http://{host}");
        let error = send(&egress(stage.clone()), &scope(origin(&host)), &host)
            .await
            .unwrap_err();
        assert_eq!(error, EgressError::Unreachable { blocked: true }, "{host}");
        assert!(stage.dialled().is_empty());
    }
}

#[tokio::test]
async fn loopback_is_reached_where_every_layer_names_it() {
    let server = Server::answering(HELLO).await;
    let stage = Stage::new(&[], server.address);
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{}", server.address.port());
        let answer = send(&egress(stage.clone()), &scope(origin(&url)), &url)
            .await
            .unwrap();
        assert_eq!(text(answer).await.unwrap(), "hello");
    }
    assert!(stage.lookups().is_empty(), "localhost is not resolved");
    // A wildcard of another layer takes it away again.
    let url = format!("http://127.0.0.1:{}/", server.address.port());
    let wide =
        Permissions::parse("http = [{ origin = \"http://*:*\", methods = [\"GET\"] }]").unwrap();
    let narrowed = origin(&url[..url.len() - 1])
        .as_ref()
        .clone()
        .narrowed_by_tenant(Some(wide.into()));
    assert!(matches!(
        send(&egress(stage), &scope(narrowed.into()), &url).await,
        Err(EgressError::Denied(_))
    ));
}

#[tokio::test]
async fn a_redirect_is_an_answer_to_the_guest() {
    let server = Server::answering("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n").await;
    let stage = Stage::new(&[&["93.184.216.34"]], server.address);
    let (egress, scope) = (egress(stage.clone()), scope(origin("http://a.example")));
    let answer = send(&egress, &scope, "http://a.example/").await.unwrap();
    assert_eq!((answer.status().as_u16(), stage.dialled().len()), (302, 1));
    let location = answer.headers()["location"].to_str().unwrap();
    assert!(matches!(
        send(&egress, &scope, location).await,
        Err(EgressError::Denied(_))
    ));
    // The helper that follows them checks each.
    let url = Url::parse("http://a.example/").unwrap();
    assert!(matches!(
        egress.get(&scope, &url, 100).await,
        Err(EgressError::Denied(_))
    ));
    assert_eq!(stage.dialled().len(), 2);
}

#[tokio::test]
async fn the_helper_follows_what_is_granted_and_not_for_ever() {
    let moved = "HTTP/1.1 301 Moved\r\nlocation: ../keys?x=1\r\ncontent-length: 0\r\n\r\n";
    let scripts = vec![vec![moved.into()], vec![HELLO.into()]];
    let server = Server::start(scripts, Duration::ZERO).await;
    let egress_ = egress(Stage::new(&[&["93.184.216.34"]], server.address));
    let url = Url::parse("http://a.example/a/b").unwrap();
    let document = egress_
        .get(&scope(origin("http://a.example")), &url, 5)
        .await
        .unwrap();
    assert_eq!(
        (
            document.url.as_str(),
            &document.body[..],
            document.status.as_u16()
        ),
        ("http://a.example/keys?x=1", &b"hello"[..], 200)
    );

    let long = Server::answering(HELLO).await;
    let egress_ = egress(Stage::new(&[&["93.184.216.34"]], long.address));
    assert_eq!(
        egress_
            .get(&scope(origin("http://a.example")), &url, 4)
            .await
            .unwrap_err(),
        EgressError::Spent
    );
    let looping = Server::answering(moved).await;
    let egress_ = egress(Stage::new(&[&["93.184.216.34"]], looping.address));
    assert!(matches!(
        egress_
            .get(&scope(origin("http://a.example")), &url, 5)
            .await,
        Err(EgressError::Invalid(_))
    ));
    assert_eq!(looping.requests().len(), 6);
}

#[tokio::test]
async fn connections_are_capped_per_call_and_per_tenant() {
    let server = Server::start(
        vec![vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".into()]; 9],
        Duration::from_secs(9),
    )
    .await;
    let egress = egress(Stage::new(&[&["93.184.216.34"]], server.address));
    let tenant = Connections::new(3);
    let scope = |connections| {
        let limits = Limits {
            connections,
            ..Limits::default()
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let meter = std::sync::Arc::new(ambit_egress::Budget::new(1 << 20));
        ambit_egress::Scope::new(
            origin("http://a.example"),
            &limits,
            deadline,
            tenant.clone(),
            meter,
        )
    };
    let (first, second) = (scope(2), scope(2));
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(send(&egress, &first, "http://a.example/").await.unwrap());
    }
    assert_eq!(
        send(&egress, &first, "http://a.example/").await.err(),
        Some(EgressError::Busy)
    );
    held.push(send(&egress, &second, "http://a.example/").await.unwrap());
    assert_eq!(
        send(&egress, &second, "http://a.example/").await.err(),
        Some(EgressError::Busy)
    );
    assert_eq!(tenant.available(), 0);
    held.clear();
    assert_eq!(tenant.available(), 3);
    send(&egress, &second, "http://a.example/").await.unwrap();
}

#[tokio::test]
async fn slowness_is_bounded() {
    // A server that accepts and says nothing.
    let silent = Server::start(vec![vec![], vec![]], Duration::ZERO).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = egress(Stage::new(
        &[&["93.184.216.34"]],
        listener.local_addr().unwrap(),
    ));
    let short = Timeouts::asked(None, Some(Duration::from_millis(50)));
    let result = mute
        .send(
            &scope(origin("http://a.example")),
            get("http://a.example/"),
            short,
        )
        .await;
    assert_eq!(result.err(), Some(EgressError::Timeout(Phase::FirstByte)));
    let hurried = scope_with(
        origin("http://a.example"),
        &Limits::default(),
        1 << 20,
        Duration::from_millis(50),
    );
    assert_eq!(
        send(&mute, &hurried, "http://a.example/").await.err(),
        Some(EgressError::Timeout(Phase::Call))
    );
    // One that hangs up.
    let gone = egress(Stage::new(&[&["93.184.216.34"]], silent.address));
    assert_eq!(
        send(
            &gone,
            &scope(origin("http://a.example")),
            "http://a.example/"
        )
        .await
        .err(),
        Some(EgressError::Protocol)
    );
    // One that drips for ever.
    let mut drip = vec!["HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".into()];
    drip.extend(vec!["x".into(); 1000]);
    let dripping = Server::start(vec![drip], Duration::from_millis(5)).await;
    let egress = egress(Stage::new(&[&["93.184.216.34"]], dripping.address));
    let scope = scope_with(
        origin("http://a.example"),
        &Limits::default(),
        1 << 20,
        Duration::from_millis(200),
    );
    let answer = send(&egress, &scope, "http://a.example/").await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(
        text(answer).await.err(),
        Some(EgressError::Timeout(Phase::Call))
    );
    assert!(started.elapsed() < Duration::from_secs(2));
}
