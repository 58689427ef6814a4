//! The web through `wasi:http/outgoing-handler`.

use url::{Position, Url};
use wasip2::{
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, IncomingResponse, OutgoingRequest, RequestOptions, Scheme},
    },
    io::streams::StreamError,
};

use crate::{Answer, Refusal, Web};

pub(crate) struct Outside;

const SECOND: u64 = 1_000_000_000;

impl Web for Outside {
    fn get(&mut self, url: &Url, most: usize) -> Result<Answer, Refusal> {
        let response = send(url)?;
        let header = |name: &str| {
            let value = response.headers().get(name).into_iter().next()?;
            Some(String::from_utf8_lossy(&value).into_owned())
        };
        let mut answer = Answer {
            status: response.status(),
            content_type: header("content-type"),
            location: header("location"),
            ..Answer::default()
        };
        if (200..300).contains(&answer.status) {
            (answer.body, answer.cut) = read(&response, most)?;
        }
        Ok(answer)
    }
}

fn unfit<E>(_: E) -> Refusal {
    Refusal::Failed("the address cannot be sent".to_owned())
}

fn send(url: &Url) -> Result<IncomingResponse, Refusal> {
    let headers = Fields::new();
    headers
        .append(
            "accept",
            b"text/html, application/xhtml+xml, text/plain;q=0.9, */*;q=0.5",
        )
        .map_err(unfit)?;
    headers
        .append("accept-encoding", b"identity")
        .map_err(unfit)?;
    let request = OutgoingRequest::new(headers);
    let scheme = if url.scheme() == "https" {
        Scheme::Https
    } else {
        Scheme::Http
    };
    request.set_scheme(Some(&scheme)).map_err(unfit)?;
    request
        .set_authority(Some(&url[Position::BeforeHost..Position::BeforePath]))
        .map_err(unfit)?;
    request
        .set_path_with_query(Some(&url[Position::BeforePath..Position::AfterQuery]))
        .map_err(unfit)?;
    let options = RequestOptions::new();
    options
        .set_connect_timeout(Some(5 * SECOND))
        .map_err(unfit)?;
    options
        .set_first_byte_timeout(Some(10 * SECOND))
        .map_err(unfit)?;
    let future = outgoing_handler::handle(request, Some(options)).map_err(refusal)?;
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(error))) => Err(refusal(error)),
        _ => Err(Refusal::Failed("the host gave no answer".to_owned())),
    }
}

/// At most `most` bytes, and whether there were more.
fn read(response: &IncomingResponse, most: usize) -> Result<(Vec<u8>, bool), Refusal> {
    let broken = || Refusal::Failed("the answer broke off".to_owned());
    let body = response.consume().map_err(|()| broken())?;
    let stream = body.stream().map_err(|()| broken())?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok((bytes, false)),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(
                    wasip2::http::types::http_error_code(&error).map_or_else(broken, refusal)
                );
            }
        }
        if bytes.len() > most {
            bytes.truncate(most);
            return Ok((bytes, true));
        }
    }
}

fn refusal(error: ErrorCode) -> Refusal {
    match error {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Refusal::Denied,
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Refusal::Timeout,
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => {
            Refusal::Failed("there is no such site".to_owned())
        }
        ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTerminated
        | ErrorCode::DestinationUnavailable => {
            Refusal::Failed("the site does not take connections".to_owned())
        }
        ErrorCode::TlsCertificateError
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsAlertReceived(_) => {
            Refusal::Failed("the site's certificate is not trusted".to_owned())
        }
        ErrorCode::HttpResponseBodySize(_) | ErrorCode::HttpResponseHeaderSectionSize(_) => {
            Refusal::Failed("the answer is too long".to_owned())
        }
        _ => Refusal::Failed("the request failed".to_owned()),
    }
}
