//! Documents on their way into a collection and out of it.
//!
//! A batch is a number of lines, one document each, so that a client loads a large folder in many small requests: each is answered with
//! what it did, repeating one costs a hash per document, and a broken load goes on where it stopped. Every text of it (title and
//! attributes too) passes the guardrail's `ingest` stage first. A document it rejects, or that the retrieval component cannot take, is named in
//! the answer with the reason, and the others are stored.

use super::{Admin, Answer, Asked, At, one};
use crate::openai::json::{self, Bad};
use ambit_capabilities::{
    guardrail::Stage,
    retrieval::{self, Attribute, Document, IngestReport, MediaType, RetrievalError, judged},
};
use ambit_session::Tenant as Live;
use ambit_types::{CallContext, CollectionName, Error, ErrorKind, TenantSlug};
use axum::body::Body;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Lines of one request.
const MAX_DOCUMENTS: usize = 1000;
/// What the retrieval component gets in one call: its memory and time are limited, and one call is one transaction.
const CALL_DOCUMENTS: usize = 64;
const CALL_BYTES: usize = 512 << 10;
const MAX_ID: usize = 1024;

#[derive(Deserialize)]
pub(super) struct Prefix {
    prefix: String,
}

pub(super) async fn load(
    admin: Admin,
    At((slug, name)): At<(TenantSlug, CollectionName)>,
    body: Body,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let live = admin.live(&tenant)?;
    let read = admin.0.admin_body(body).await?;
    let documents = parse(&read.bytes)?;
    store.ensure_collection(&name, None).await?;
    let context = admin.context(&tenant);
    let (mut sum, mut rejected) = (IngestReport::default(), Vec::new());
    for batch in batches(documents) {
        let (kept, refused) = judged(&live, &context, batch).await?;
        let (report, unfit) = stored(&live, &context, &name, kept).await?;
        add(&mut sum, &report);
        rejected.extend(refused.into_iter().chain(unfit));
    }
    one(
        json!({"written": sum.written, "unchanged": sum.unchanged, "chunks": sum.chunks, "rejected": rejected}),
    )
}

pub(super) async fn remove(
    admin: Admin,
    At((slug, name)): At<(TenantSlug, CollectionName)>,
    Asked(Prefix { prefix }): Asked<Prefix>,
) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    store
        .collection(&name)
        .await?
        .ok_or_else(|| Error::not_found(format!("there is no collection `{name}`")))?;
    let live = admin.live(&tenant)?;
    let retriever = live.retriever.as_ref().ok_or_else(no_retrieval)?;
    let deleted = retriever
        .delete(&admin.context(&tenant), &live.retrieval, &name, &prefix)
        .await
        .map_err(Error::from)?;
    one(json!({ "removed": deleted }))
}

fn no_retrieval() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "no component is bound to slot `retrieval`",
    )
}

/// The documents that may be stored, masked where the rules mask, and those that may not, with the reason.
async fn judged(
    live: &Arc<Live>,
    context: &CallContext,
    mut documents: Vec<Document>,
) -> Result<(Vec<Document>, Vec<Value>), Error> {
    let texts = judged::texts(&mut documents);
    let checked = live
        .guardrail
        .check_all(context, Stage::Ingest, texts)
        .await?;
    let (mut kept, mut rejected) = (Vec::with_capacity(documents.len()), Vec::new());
    for judged in judged::apply(documents, checked) {
        match judged {
            Ok(document) => kept.push(document),
            Err((id, category)) => rejected.push(json!({"id": id, "category": category})),
        }
    }
    Ok((kept, rejected))
}

/// Stores documents. What the component takes amiss in one of them (an id used twice, an attribute that is too long) keeps none of the
/// others out: a load of many thousands does not stop at one odd row, and one that is repeated gets past it.
async fn stored(
    live: &Live,
    context: &CallContext,
    name: &CollectionName,
    documents: Vec<Document>,
) -> Result<(IngestReport, Vec<Value>), Error> {
    let retriever = live.retriever.as_ref().ok_or_else(no_retrieval)?;
    let ingest = |documents| retriever.ingest(context, &live.retrieval, name, documents);
    match ingest(documents.clone()).await {
        Err(RetrievalError::Invalid(_)) => {}
        report => return Ok((report?, Vec::new())),
    }
    let (mut sum, mut rejected) = (IngestReport::default(), Vec::new());
    for document in documents {
        let id = document.id.clone();
        match ingest(vec![document]).await {
            Ok(report) => add(&mut sum, &report),
            Err(RetrievalError::Invalid(reason)) => {
                rejected.push(json!({"id": id, "reason": reason}));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((sum, rejected))
}

fn add(sum: &mut IngestReport, report: &IngestReport) {
    sum.written += report.written;
    sum.unchanged += report.unchanged;
    sum.chunks += report.chunks;
}

/// Documents in pieces that a component can take in one call. A large one is alone.
fn batches(documents: Vec<Document>) -> Vec<Vec<Document>> {
    let mut batches: Vec<Vec<Document>> = Vec::new();
    let mut bytes = 0;
    for document in documents {
        let size = document.text.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < CALL_DOCUMENTS && bytes + size <= CALL_BYTES => {
                bytes += size;
                batch.push(document);
            }
            _ => {
                bytes = size;
                batches.push(vec![document]);
            }
        }
    }
    batches
}

/// Reads one document a line. Empty lines mean nothing.
fn parse(body: &[u8]) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    for (i, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if documents.len() == MAX_DOCUMENTS {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("at most {MAX_DOCUMENTS} documents fit into one request"),
            ));
        }
        let document = json::object(line)
            .and_then(document)
            .map_err(|bad| Error::from(bad.in_field(&format!("line {}", i + 1))))?;
        documents.push(document);
    }
    Ok(documents)
}

/// `_id` (or `id`) and `text` are needed; `title` and `media_type` may stand beside them; whatever else there is, is an attribute.
fn document(mut map: Map<String, Value>) -> Result<Document, Bad> {
    let key = if map.contains_key("_id") { "_id" } else { "id" };
    let id = json::required(&mut map, key, |value| match scalar(&value) {
        Some(id) if (1..=MAX_ID).contains(&id.len()) => Ok(id),
        _ => Err(json::wrong(
            &value,
            &format!("a string of 1 to {MAX_ID} bytes or a number"),
        )),
    })?;
    let text = json::required(&mut map, "text", json::string)?;
    let title = json::optional(&mut map, "title", json::string)?.unwrap_or_default();
    let media_type = json::optional(&mut map, "media_type", |value| {
        match json::string(value)?.as_str() {
            "plain" | "text/plain" => Ok(MediaType::Plain),
            "markdown" | "text/markdown" => Ok(MediaType::Markdown),
            "html" | "text/html" => Ok(MediaType::Html),
            _ => Err(Bad::new("expected plain, markdown or html")),
        }
    })?;
    let mut attributes = Vec::new();
    for (name, value) in map {
        if value.is_null()
            || matches!(
                name.as_str(),
                "_id" | "id" | "text" | "title" | "media_type"
            )
        {
            continue;
        }
        // Nested values keep their JSON: a filter compares scalars, but nothing is lost.
        let value = match value {
            Value::Bool(flag) => retrieval::Value::Boolean(flag),
            Value::Number(number) if number.as_f64().is_some_and(f64::is_finite) => {
                retrieval::Value::Number(number.as_f64().unwrap_or_default())
            }
            Value::String(text) => retrieval::Value::Text(text),
            nested => retrieval::Value::Text(nested.to_string()),
        };
        attributes.push(Attribute { name, value });
    }
    Ok(Document {
        id,
        title,
        media_type: media_type.unwrap_or(MediaType::Plain),
        text,
        attributes,
    })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_beir_layout_with_attributes() {
        let body = "{\"_id\": 7, \"title\": \"T\", \"text\": \"x\", \"year\": 1958, \"tags\": [\"a\"], \"none\": null}\n\n  {\"id\":\"b\",\"text\":\"\",\"media_type\":\"markdown\"}\r\n";
        let documents = parse(body.as_bytes()).unwrap();
        assert_eq!(
            (documents[0].id.as_str(), documents[0].title.as_str()),
            ("7", "T")
        );
        let attributes: Vec<_> = documents[0]
            .attributes
            .iter()
            .map(|a| (a.name.as_str(), serde_json::to_value(&a.value).unwrap()))
            .collect();
        assert_eq!(
            attributes,
            [("year", json!(1958.0)), ("tags", json!("[\"a\"]"))]
        );
        assert_eq!(
            (documents[1].id.as_str(), documents[1].media_type),
            ("b", MediaType::Markdown)
        );
    }

    #[test]
    fn a_mistake_names_its_line_and_field() {
        for (body, param) in [
            (
                "{\"_id\":\"a\",\"text\":\"\"}\n{\"_id\":\"b\"}",
                "line 2.text",
            ),
            ("{\"text\":\"x\"}", "line 1.id"),
            ("{\"_id\":{},\"text\":\"x\"}", "line 1._id"),
            ("{\"_id\":\"\",\"text\":\"x\"}", "line 1._id"),
            ("{\"_id\":\"a\",\"text\":5}", "line 1.text"),
            (
                "{\"_id\":\"a\",\"text\":\"\",\"media_type\":\"pdf\"}",
                "line 1.media_type",
            ),
            ("nonsense", "line 1"),
        ] {
            let error = parse(body.as_bytes()).unwrap_err();
            assert_eq!(
                *error.kind(),
                ErrorKind::Invalid {
                    param: Some(param.to_owned())
                },
                "{body}"
            );
        }
        let many = "{\"_id\":\"a\",\"text\":\"\"}\n".repeat(MAX_DOCUMENTS + 1);
        assert_eq!(parse(many.as_bytes()).unwrap_err().status(), 413);
    }

    #[test]
    fn batches_are_bounded_and_keep_the_order() {
        let document = |i: usize, size: usize| Document {
            id: i.to_string(),
            title: String::new(),
            media_type: MediaType::Plain,
            text: "x".repeat(size),
            attributes: Vec::new(),
        };
        let sizes = [10, CALL_BYTES + 1, 10, CALL_BYTES, 0];
        let batches = batches(
            sizes
                .iter()
                .enumerate()
                .map(|(i, size)| document(i, *size))
                .collect(),
        );
        let ids: Vec<Vec<_>> = batches
            .iter()
            .map(|batch| batch.iter().map(|document| document.id.as_str()).collect())
            .collect();
        assert_eq!(ids, [vec!["0"], vec!["1"], vec!["2"], vec!["3", "4"]]);
        assert_eq!(
            super::batches((0..100).map(|i| document(i, 1)).collect()).len(),
            2
        );
    }
}
