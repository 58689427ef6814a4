//! What is really sent: written from the checked URL, with only such headers as are the guest's to choose.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{self, Entry},
    request::Parts,
};
use url::{Position, Url};

use crate::{BoxError, EgressError, Scope, body::OutgoingBody};

/// A request that may be sent, and the URL it was allowed for.
pub(crate) struct Prepared {
    pub(crate) url: Url,
    pub(crate) message: Request<OutgoingBody>,
}

/// Headers that belong to one connection, to the way the message travels, or to us.
const NOT_THE_GUESTS: [&str; 17] = [
    "connection",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

const MAX_URL_BYTES: usize = 8 << 10;

pub(crate) fn prepare<B>(scope: &Scope, request: Request<B>) -> Result<Prepared, EgressError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let url = checked_url(scope, &parts)?;
    let method = parts.method;
    let mut headers = parts.headers;
    strip_hop_by_hop(&mut headers);
    check_content_length(&headers)?;
    scope.secrets.swap_in(&scope.ambit, &url, &mut headers)?;
    headers.insert(header::HOST, host_header(&url)?);
    if let Entry::Vacant(entry) = headers.entry(header::USER_AGENT) {
        entry.insert(HeaderValue::from_static(concat!(
            "ambit/",
            env!("CARGO_PKG_VERSION")
        )));
    }

    let target = &url[Position::BeforePath..Position::AfterQuery];
    scope.charge(method.as_str().len() + target.len() + header_bytes(&headers))?;
    let mut message = Request::new(OutgoingBody::new(scope.clone(), body));
    *message.uri_mut() = target
        .parse()
        .map_err(|_| EgressError::Invalid("the URL's path cannot be sent"))?;
    *message.method_mut() = method;
    *message.version_mut() = Version::HTTP_11;
    *message.headers_mut() = headers;
    Ok(Prepared { url, message })
}

fn checked_url(scope: &Scope, parts: &Parts) -> Result<Url, EgressError> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(EgressError::Invalid("CONNECT and TRACE are never sent"));
    }
    let text = parts.uri.to_string();
    if text.len() > MAX_URL_BYTES {
        return Err(EgressError::Invalid("the URL is longer than 8192 bytes"));
    }
    let url = Url::parse(&text).map_err(|_| EgressError::Invalid("the URL cannot be read"))?;
    let permit = scope
        .ambit
        .http(parts.method.as_str(), &url)
        .map_err(EgressError::Denied)?;
    Ok(permit.url.clone())
}

/// Removes what is about the connection, and whatever `Connection` names (RFC 9110 §7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in NOT_THE_GUESTS {
        headers.remove(name);
    }
}

/// Two lengths, or one that is no number, are how one request is read as two.
fn check_content_length(headers: &HeaderMap) -> Result<(), EgressError> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let valid =
        |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(value), None) if valid(value) => Ok(()),
        _ => Err(EgressError::Invalid("content-length must be one number")),
    }
}

fn host_header(url: &Url) -> Result<HeaderValue, EgressError> {
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    let text = url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    HeaderValue::from_str(&text).map_err(|_| EgressError::Invalid("the host cannot be sent"))
}

/// As on the wire: `name: value\r\n`.
pub(crate) fn header_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum()
}
