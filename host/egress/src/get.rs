//! Fetching one document for the host itself, for example a key set.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use url::Url;

use crate::{Egress, EgressError, ResponseBody, Scope, Timeouts};

/// A document, whole.
#[derive(Debug, Clone)]
pub struct Document {
    /// Where it was found, after redirects.
    pub url: Url,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

const MOST_REDIRECTS: usize = 5;

impl Egress {
    /// Gets `url` and follows redirects, each one checked like the first. A document over `most` bytes is `Spent`.
    ///
    /// # Errors
    /// As [`Egress::send`].
    pub async fn get(
        &self,
        scope: &Scope,
        url: &Url,
        most: usize,
    ) -> Result<Document, EgressError> {
        let mut url = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.method_mut() = Method::GET;
            *request.uri_mut() = url
                .as_str()
                .parse()
                .map_err(|_| EgressError::Invalid("the URL cannot be read"))?;
            let answer = self.send(scope, request, Timeouts::default()).await?;
            match redirect(&answer, &url)? {
                Some(next) => url = next,
                None => return whole(url, answer, most).await,
            }
        }
        Err(EgressError::Invalid("too many redirects"))
    }
}

fn redirect(answer: &Response<ResponseBody>, from: &Url) -> Result<Option<Url>, EgressError> {
    let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    match answer.headers().get(header::LOCATION).filter(|_| moved) {
        None => Ok(None),
        Some(location) => location
            .to_str()
            .ok()
            .and_then(|location| from.join(location).ok())
            .map(Some)
            .ok_or(EgressError::Invalid("the redirect's target cannot be read")),
    }
}

async fn whole(
    url: Url,
    answer: Response<ResponseBody>,
    most: usize,
) -> Result<Document, EgressError> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, most).collect().await.map_err(|error| {
        match error.downcast::<EgressError>() {
            Ok(own) => *own,
            Err(_) => EgressError::Spent,
        }
    })?;
    Ok(Document {
        url,
        status: parts.status,
        headers: parts.headers,
        body: body.to_bytes(),
    })
}
