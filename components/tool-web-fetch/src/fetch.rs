//! One call: from a URL to a text a model can read.

use serde::Deserialize;
use std::fmt::Write as _;
use url::Url;

use crate::{decode, readable};

/// What is on the other side of the component: the web, or a test.
pub trait Web {
    /// Asks for one document, without following redirects. Reads at most `most` bytes of a body, and none unless the status is 2xx.
    ///
    /// # Errors
    /// The request was refused or failed.
    fn get(&mut self, url: &Url, most: usize) -> Result<Answer, Refusal>;
}

#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub content_type: Option<String>,
    pub location: Option<String>,
    pub body: Vec<u8>,
    /// The body is longer than what was read.
    pub cut: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The permissions do not cover the request, or the address is never reached.
    Denied,
    Timeout,
    /// What failed, fit for the model.
    Failed(String),
}

/// Why a call did not work; each text is for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Arguments(String),
    Denied(String),
    Timeout(String),
    Unavailable(String),
}

/// A tool as a model sees it.
#[derive(Debug)]
pub struct Tool {
    pub name: &'static str,
    pub description: &'static str,
    /// JSON Schema of the arguments.
    pub parameters: &'static str,
}

pub const TOOL: Tool = Tool {
    name: "fetch_page",
    description: "Reads a web page or text document and returns its readable text with title and links. Only sites this agent may reach; no log-in, no scripts.",
    parameters: r#"{"type":"object","properties":{"url":{"type":"string","description":"Absolute http or https address.","maxLength":2048},"start":{"type":"integer","minimum":0,"maximum":10000000,"description":"Character to start at, to read on in a long page. 0 when left out."}},"required":["url"],"additionalProperties":false}"#,
};

/// Bytes read of one document.
const MOST_BYTES: usize = 1 << 20;
/// Characters returned at once: about four thousand tokens.
const WINDOW: usize = 16_000;
const MOST_REDIRECTS: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    url: String,
    #[serde(default)]
    start: usize,
}

/// Carries out one call.
///
/// # Errors
/// For the model: what is wrong with its call, what is not allowed, or what did not answer.
pub fn fetch(arguments: &str, web: &mut impl Web) -> Result<String, Failure> {
    let asked: Arguments = serde_json::from_str(arguments)
        .map_err(|error| Failure::Arguments(format!("the arguments cannot be read: {error}")))?;
    let (url, answer) = follow(parse(&asked.url)?, web)?;
    if !(200..300).contains(&answer.status) {
        return Err(Failure::Unavailable(status_text(answer.status, &url)));
    }
    let document = read(&url, &answer)?;
    Ok(present(&url, &document, asked.start, answer.cut))
}

fn parse(text: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| {
        Failure::Arguments(format!(
            "`url`: {why}; write an absolute address such as `https://example.com/page`"
        ))
    };
    let mut url = Url::parse(text.trim()).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("only http and https can be fetched"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "an address with user name or password is not fetched",
        ));
    }
    url.set_fragment(None);
    Ok(url)
}

/// Asks, and asks again where the answer points: each request stands for itself before the host's checks.
fn follow(mut url: Url, web: &mut impl Web) -> Result<(Url, Answer), Failure> {
    for _ in 0..=MOST_REDIRECTS {
        let answer = web
            .get(&url, MOST_BYTES)
            .map_err(|refusal| failure(refusal, &url))?;
        let moved = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
        match answer.location.as_deref().filter(|_| moved) {
            None => return Ok((url, answer)),
            Some(location) => {
                let next = url
                    .join(location)
                    .ok()
                    .and_then(|next| parse(next.as_str()).ok());
                url = next.ok_or_else(|| {
                    Failure::Unavailable(format!(
                        "{} redirects to an address that cannot be fetched",
                        show(&url)
                    ))
                })?;
            }
        }
    }
    Err(Failure::Unavailable(format!(
        "more than {MOST_REDIRECTS} redirects; the last led to {}",
        show(&url)
    )))
}

fn failure(refusal: Refusal, url: &Url) -> Failure {
    match refusal {
        Refusal::Denied => Failure::Denied(format!(
            "{} is not among the sites this agent may read",
            show(url)
        )),
        Refusal::Timeout => Failure::Timeout(format!("{} did not answer in time", show(url))),
        Refusal::Failed(why) => {
            Failure::Unavailable(format!("{} cannot be read: {why}", show(url)))
        }
    }
}

fn status_text(status: u16, url: &Url) -> String {
    let meaning = match status {
        401 | 403 => "it does not let strangers in",
        404 | 410 => "there is no such page; look for another address",
        429 => "it gets too many requests; try again later",
        500..=599 => "it has a problem of its own; try again later",
        _ => "it is no page",
    };
    format!("{} answered with status {status}: {meaning}", show(url))
}

/// Without the query, which may be long.
fn show(url: &Url) -> String {
    let text = &url[..url::Position::AfterPath];
    if text.chars().count() > 120 {
        text.chars().take(120).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}

struct Document {
    title: String,
    text: String,
    links: Vec<(String, Url)>,
}

fn read(url: &Url, answer: &Answer) -> Result<Document, Failure> {
    let declared = answer.content_type.as_deref().unwrap_or_default();
    let (media, parameters) = declared.split_once(';').unwrap_or((declared, ""));
    let media = media.trim().to_ascii_lowercase();
    let charset = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    });
    let kind = kind(&media, &answer.body).ok_or_else(|| {
        let media: String = media.chars().take(60).collect();
        Failure::Unavailable(format!(
            "{} is `{media}`; only HTML and text can be read",
            show(url)
        ))
    })?;
    let text = decode(&answer.body, charset).map_err(|charset| {
        Failure::Unavailable(format!(
            "{} is written in `{charset}`; only UTF-8 and Latin-1 can be read",
            show(url)
        ))
    })?;
    Ok(match kind {
        Kind::Text => Document {
            title: String::new(),
            text: text.replace('\0', ""),
            links: Vec::new(),
        },
        Kind::Html => {
            let page = readable(&text, url);
            Document {
                title: page.title,
                text: page.text,
                links: page.links,
            }
        }
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Html,
    Text,
}

fn kind(media: &str, body: &[u8]) -> Option<Kind> {
    match media {
        "text/html" | "application/xhtml+xml" => Some(Kind::Html),
        "application/json"
        | "application/xml"
        | "application/yaml"
        | "application/toml"
        | "application/javascript" => Some(Kind::Text),
        _ if media.starts_with("text/") || media.ends_with("+json") || media.ends_with("+xml") => {
            Some(Kind::Text)
        }
        // Nobody said: what looks like a page is one, what holds zero bytes is no text.
        "" => {
            let start = body
                .iter()
                .position(|byte| !byte.is_ascii_whitespace())
                .unwrap_or(0);
            let html = body.get(start) == Some(&b'<');
            (!body.contains(&0)).then_some(if html { Kind::Html } else { Kind::Text })
        }
        _ => None,
    }
}

/// The part from `start` on, and whatever the model must know of what is missing.
fn present(url: &Url, document: &Document, start: usize, cut: bool) -> String {
    let total = document.text.chars().count();
    let window: String = document.text.chars().skip(start).take(WINDOW).collect();
    let end = start.saturating_add(WINDOW).min(total);
    let mut out = format!("Address: {url}\n");
    if !document.title.is_empty() {
        let _ = writeln!(
            out,
            "Title: {}",
            document.title.chars().take(300).collect::<String>()
        );
    }
    if start > 0 || end < total {
        let _ = writeln!(
            out,
            "Part: characters {} to {end} of {total}",
            start.min(total)
        );
    }
    out.push('\n');
    out.push_str(if total == 0 {
        "(The page has no readable text.)"
    } else {
        &window
    });
    if start == 0 && !document.links.is_empty() {
        out.push_str("\n\nLinks:");
        for (text, link) in &document.links {
            let _ = write!(
                out,
                "\n- {}: {link}",
                text.chars().take(80).collect::<String>()
            );
        }
    }
    if end < total {
        let _ = write!(out, "\n\n(There is more: call again with start {end}.)");
    } else if cut {
        let _ = write!(
            out,
            "\n\n(The document is longer than {} KiB; the rest cannot be read.)",
            MOST_BYTES >> 10
        );
    }
    out
}
