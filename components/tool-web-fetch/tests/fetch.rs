//! The call over a web that is a list.

use std::collections::HashMap;
use tool_web_fetch::{Answer, Failure, Refusal, TOOL, Web, fetch};
use url::Url;

#[derive(Default)]
struct List {
    pages: HashMap<String, Result<Answer, Refusal>>,
    asked: Vec<String>,
}

impl Web for List {
    fn get(&mut self, url: &Url, most: usize) -> Result<Answer, Refusal> {
        self.asked.push(url.to_string());
        let mut answer = self
            .pages
            .get(url.as_str())
            .cloned()
            .unwrap_or(Err(Refusal::Denied))?;
        answer.cut = answer.body.len() > most;
        answer.body.truncate(most);
        Ok(answer)
    }
}

impl List {
    fn with(mut self, url: &str, answer: Result<Answer, Refusal>) -> Self {
        self.pages.insert(url.to_owned(), answer);
        self
    }

    fn page(self, url: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let content_type = Some(content_type.to_owned()).filter(|text| !text.is_empty());
        self.with(
            url,
            Ok(Answer {
                status: 200,
                content_type,
                body: body.into(),
                ..Answer::default()
            }),
        )
    }

    fn redirect(self, url: &str, location: &str) -> Self {
        self.with(
            url,
            Ok(Answer {
                status: 302,
                location: Some(location.to_owned()),
                ..Answer::default()
            }),
        )
    }

    fn fetch(&mut self, url: &str) -> Result<String, Failure> {
        fetch(&serde_json::json!({ "url": url }).to_string(), self)
    }
}

#[test]
fn a_page_is_read() {
    let mut web = List::default().page(
        "https://a.example/x",
        "text/html; charset=utf-8",
        "<title>T</title><h1>H</h1><p>One <a href=y>two</a>.",
    );
    assert_eq!(
        web.fetch(" https://a.example/x#part ").unwrap(),
        "Address: https://a.example/x\nTitle: T\n\n# H\n\nOne two.\n\nLinks:\n- two: https://a.example/y"
    );
}

#[test]
fn texts_are_given_as_they_are() {
    for media in [
        "text/plain",
        "application/json",
        "application/ld+json",
        "text/markdown; charset=\"UTF-8\"",
        "",
    ] {
        let mut web = List::default().page("https://a.example/", media, "{\"a\": [1]}\n  x");
        assert_eq!(
            web.fetch("https://a.example/").unwrap(),
            "Address: https://a.example/\n\n{\"a\": [1]}\n  x",
            "{media}"
        );
    }
    let mut latin = List::default().page(
        "https://a.example/",
        "text/plain; Charset=ISO-8859-1",
        *b"Gr\xfc\xdfe",
    );
    assert!(
        latin
            .fetch("https://a.example/")
            .unwrap()
            .ends_with("Grüße")
    );
    let mut unnamed = List::default().page(
        "https://a.example/",
        "",
        "\n <!doctype html><p>x<script>y</script>",
    );
    assert_eq!(
        unnamed.fetch("https://a.example/").unwrap(),
        "Address: https://a.example/\n\nx"
    );
}

#[test]
fn what_is_no_text_is_refused_clearly() {
    for (media, body, expected) in [
        (
            "image/png",
            &b"\x89PNG"[..],
            "is `image/png`; only HTML and text can be read",
        ),
        (
            "application/octet-stream",
            b"x",
            "is `application/octet-stream`",
        ),
        ("", b"a\0b", "only HTML and text"),
        (
            "text/html; charset=shift_jis",
            b"x",
            "is written in `shift_jis`",
        ),
    ] {
        let mut web = List::default().page("https://a.example/", media, body);
        match web.fetch("https://a.example/") {
            Err(Failure::Unavailable(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn redirects_are_asked_again() {
    let mut web = List::default()
        .redirect("https://a.example/1", "../2?x=1#f")
        .redirect("https://a.example/2?x=1", "//b.example/3")
        .page("https://b.example/3", "text/plain", "here");
    assert!(
        web.fetch("https://a.example/1")
            .unwrap()
            .starts_with("Address: https://b.example/3\n")
    );
    assert_eq!(
        web.asked,
        [
            "https://a.example/1",
            "https://a.example/2?x=1",
            "https://b.example/3"
        ]
    );

    let mut evil = List::default().redirect("https://a.example/", "http://169.254.169.254/latest");
    assert_eq!(
        evil.fetch("https://a.example/"),
        Err(Failure::Denied(
            "http://169.254.169.254/latest is not among the sites this agent may read".to_owned()
        ))
    );
    for location in [
        "file:///etc/passwd",
        "https://a:b@c.example/",
        "javascript:alert(1)",
        "https://",
    ] {
        let mut web = List::default().redirect("https://a.example/", location);
        assert!(
            matches!(
                web.fetch("https://a.example/"),
                Err(Failure::Unavailable(_))
            ),
            "{location}"
        );
    }
    let mut circle = List::default().redirect("https://a.example/", "https://a.example/");
    assert!(
        matches!(circle.fetch("https://a.example/"), Err(Failure::Unavailable(text)) if text.contains("redirects"))
    );
    assert_eq!(circle.asked.len(), 6);
}

#[test]
fn long_pages_come_in_parts() {
    let text: String = (0..5000).map(|n| format!("wörd{n} ")).collect();
    let mut web = List::default().page("https://a.example/", "text/plain", text.clone());
    let (mut start, mut whole) = (0, String::new());
    loop {
        let part = fetch(
            &format!("{{\"url\":\"https://a.example/\",\"start\":{start}}}"),
            &mut web,
        )
        .unwrap();
        let body = part.split_once("\n\n").unwrap().1;
        match body.split_once("\n\n(There is more: call again with start ") {
            Some((body, next)) => {
                whole.push_str(body);
                start = next.trim_end_matches(".)").parse().unwrap();
            }
            None => {
                whole.push_str(body);
                break;
            }
        }
    }
    assert_eq!(whole, text);
    assert!(start > 16_000);
    // Beyond the end there is nothing, and the answer says where that is.
    let total = text.chars().count();
    let beyond = fetch(
        "{\"url\":\"https://a.example/\",\"start\":9999999}",
        &mut web,
    )
    .unwrap();
    assert_eq!(
        beyond,
        format!("Address: https://a.example/\nPart: characters {total} to {total} of {total}\n\n")
    );

    let mut huge = List::default().page(
        "https://a.example/",
        "text/html",
        format!("<p>{}", "<b></b>".repeat(200_000)) + "end",
    );
    let answer = huge.fetch("https://a.example/").unwrap();
    assert!(
        answer.ends_with("(The document is longer than 1024 KiB; the rest cannot be read.)"),
        "{answer}"
    );
}

#[test]
fn failures_tell_the_model_what_happened() {
    let with = |answer| List::default().with("https://a.example/", answer);
    assert_eq!(
        with(Err(Refusal::Timeout)).fetch("https://a.example/"),
        Err(Failure::Timeout(
            "https://a.example/ did not answer in time".to_owned()
        ))
    );
    let failed =
        with(Err(Refusal::Failed("there is no such site".to_owned()))).fetch("https://a.example/");
    assert_eq!(
        failed,
        Err(Failure::Unavailable(
            "https://a.example/ cannot be read: there is no such site".to_owned()
        ))
    );
    for (status, expected) in [
        (404, "no such page"),
        (403, "strangers"),
        (429, "later"),
        (503, "later"),
        (304, "no page"),
        (302, "no page"),
    ] {
        let result = with(Ok(Answer {
            status,
            ..Answer::default()
        }))
        .fetch("https://a.example/");
        assert!(
            matches!(&result, Err(Failure::Unavailable(text)) if text.contains(expected)),
            "{result:?}"
        );
    }
    for (arguments, expected) in [
        ("{}", "missing field `url`"),
        ("{\"url\":\"a.example\"}", "write an absolute address"),
        ("{\"url\":\"ftp://a.example/\"}", "only http and https"),
        (
            "{\"url\":\"https://granted.example@evil.example/\"}",
            "user name",
        ),
        (
            "{\"url\":\"https://a.example/\",\"method\":\"POST\"}",
            "unknown field `method`",
        ),
        (
            "{\"url\":\"https://a.example/\",\"start\":-1}",
            "invalid value",
        ),
        ("[]", "cannot be read"),
    ] {
        match fetch(arguments, &mut List::default()) {
            Err(Failure::Arguments(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{arguments}: {other:?}"),
        }
    }
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(TOOL.parameters).unwrap()["type"],
        "object"
    );
}
