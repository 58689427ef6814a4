//! `POST /v1/vector_stores/{collection}/search`: retrieval in OpenAI's shape.

use super::json::{self, Bad};
use crate::{data::Call, error::OpenAiError};
use ambit_capabilities::{
    guardrail::Stage,
    retrieval::{Mode, Passage, Query, judged},
};
use ambit_types::{CollectionName, Error, Scope};
use axum::{
    Json,
    body::Body,
    extract::Path,
    response::{IntoResponse as _, Response},
};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// OpenAI allows 50; our scorers ask for 100.
const MAX_RESULTS: u32 = 100;
const MAX_QUERIES: usize = 16;

#[derive(Debug, PartialEq)]
pub(crate) struct SearchRequest {
    /// Never empty.
    pub(crate) queries: Vec<String>,
    pub(crate) max_results: u32,
    filter: Option<String>,
    mode: Option<Mode>,
    least_score: f32,
}

pub(crate) async fn create(
    call: Call,
    Path(collection): Path<String>,
    body: Body,
) -> Result<Response, OpenAiError> {
    call.require(Scope::Retrieve)?;
    let read = call.gateway.body(body).await?;
    let request = parse(&read.bytes)?;
    let unknown = || Error::not_found("there is no such collection here");
    let collection: CollectionName = collection.parse().map_err(|_| unknown())?;
    let retriever = call.tenant.retriever.as_ref().ok_or_else(unknown)?;
    let narrowing = &call.tenant.retrieval;
    let permit = retriever
        .may_search(&call.context, narrowing, &collection)
        .map_err(Error::from)?;
    let mut answers = Vec::with_capacity(request.queries.len());
    for query in request.for_retrieval() {
        answers.push(
            retriever
                .search(&call.context, narrowing, &permit, &query)
                .await
                .map_err(Error::from)?,
        );
    }
    let passages = judged(&call, request.merge(answers)).await?;
    Ok(Json(page(&request, &passages)).into_response())
}

/// What the rules for retrieved text leave: masked where they mask, left out where they reject. A caller who reads passages itself gets
/// no more of them than an agent would.
async fn judged(call: &Call, mut passages: Vec<Passage>) -> Result<Vec<Passage>, Error> {
    let texts = judged::texts(&mut passages);
    let checked = call
        .tenant
        .guardrail
        .check_all(&call.context, Stage::Retrieved, texts)
        .await?;
    for checked in &checked {
        call.gateway.metrics.judged(
            &call.context.tenant_slug,
            None,
            Stage::Retrieved,
            checked.action(),
        );
    }
    let left = judged::apply(passages, checked);
    Ok(left.into_iter().filter_map(Result::ok).collect())
}

/// Reads a body. `rewrite_query` and a ranker's name mean nothing here: both are hints.
pub(crate) fn parse(body: &[u8]) -> Result<SearchRequest, Error> {
    Ok(read(body)?)
}

fn read(body: &[u8]) -> Result<SearchRequest, Bad> {
    let mut map = json::object(body)?;
    let queries = json::required(&mut map, "query", |value| match value {
        Value::String(one) => Ok(vec![one]),
        many => json::array(many, MAX_QUERIES, json::string),
    })?;
    if queries.is_empty() {
        return Err(Bad::new("needs at least one text").in_field("query"));
    }
    let max_results = json::optional(&mut map, "max_num_results", |value| {
        json::integer(&value, 1, i64::from(MAX_RESULTS))
    })?
    .unwrap_or(10);
    // What a filter means is the index's business; here it only has to be an object.
    let filter = json::optional(&mut map, "filters", |value| {
        json::map(value).map(|map| Value::Object(map).to_string())
    })?;
    let ranking = json::optional(&mut map, "ranking_options", |value| {
        let mut ranking = json::map(value)?;
        let mode = json::optional(&mut ranking, "mode", mode)?;
        let least = json::optional(&mut ranking, "score_threshold", |value| {
            json::number(&value, 0.0, 1.0)
        })?;
        Ok((mode, least.unwrap_or(0.0)))
    })?;
    let (mode, least_score) = ranking.unwrap_or((None, 0.0));
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a score from 0 to 1 keeps enough digits"
    )]
    let least_score = least_score as f32;
    Ok(SearchRequest {
        queries,
        max_results: u32::try_from(max_results).unwrap_or(MAX_RESULTS),
        filter,
        mode,
        least_score,
    })
}

fn mode(value: Value) -> Result<Mode, Bad> {
    match json::string(value)?.as_str() {
        "keyword" => Ok(Mode::Keyword),
        "vector" => Ok(Mode::Vector),
        "hybrid" => Ok(Mode::Hybrid),
        _ => Err(Bad::new("expected keyword, vector or hybrid")),
    }
}

impl SearchRequest {
    /// One query of the retrieval component for each text asked for.
    fn for_retrieval(&self) -> Vec<Query> {
        let query = |text: &String| Query {
            text: text.clone(),
            max_results: self.max_results,
            filter: self.filter.clone(),
            mode: self.mode,
        };
        self.queries.iter().map(query).collect()
    }

    /// The answers to all queries as one list. Scores are comparable within one answer only, so answers are merged by rank: the best of
    /// each, then the second of each. A passage found twice keeps its first place.
    pub(crate) fn merge(&self, answers: Vec<Vec<Passage>>) -> Vec<Passage> {
        let mut seen = HashSet::new();
        let mut merged = Vec::new();
        let mut answers: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
        loop {
            let round: Vec<_> = answers.iter_mut().filter_map(Iterator::next).collect();
            if round.is_empty() {
                break;
            }
            let fresh =
                |passage: &Passage| seen.insert((passage.document.clone(), passage.anchor.clone()));
            merged.extend(
                round
                    .into_iter()
                    .filter(|passage| passage.score >= self.least_score)
                    .filter(fresh),
            );
        }
        merged.truncate(self.max_results as usize);
        merged
    }
}

/// OpenAI's page of results. There is one page only: the caller said how many it wants.
pub(crate) fn page(request: &SearchRequest, passages: &[Passage]) -> Value {
    let data: Vec<_> = passages.iter().map(result).collect();
    serde_json::json!({"object": "vector_store.search_results.page", "search_query": request.queries, "data": data,
        "has_more": false, "next_page": null})
}

fn result(passage: &Passage) -> Value {
    let mut attributes: Map<String, Value> = passage
        .attributes
        .iter()
        .map(|attribute| (attribute.name.clone(), serde_json::json!(attribute.value)))
        .collect();
    // Ours win over a document's own attributes of these names: they are what a citation is made of.
    attributes.insert("anchor".to_owned(), passage.anchor.as_str().into());
    if !passage.headings.is_empty() {
        attributes.insert("headings".to_owned(), passage.headings.join(" / ").into());
    }
    let title = if passage.title.is_empty() {
        &passage.document
    } else {
        &passage.title
    };
    serde_json::json!({"file_id": passage.document, "filename": title, "score": passage.score, "attributes": attributes,
        "content": [{"type": "text", "text": passage.text}]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_capabilities::retrieval::{self, Attribute};
    use serde_json::json;

    fn passage(document: &str, score: f32) -> Passage {
        Passage {
            document: document.to_owned(),
            title: String::new(),
            anchor: "a#1".to_owned(),
            headings: vec!["A".to_owned(), "B".to_owned()],
            text: "text".to_owned(),
            attributes: vec![Attribute {
                name: "anchor".to_owned(),
                value: retrieval::Value::Text("forged".to_owned()),
            }],
            score,
        }
    }

    fn request(body: &Value) -> Result<SearchRequest, Error> {
        parse(body.to_string().as_bytes())
    }

    #[test]
    fn reads_openais_body_and_the_scorers() {
        let read = request(&json!({"query": "q", "max_num_results": 100, "filters": {"type": "eq", "key": "k", "value": 1},
            "ranking_options": {"ranker": "auto", "score_threshold": 0.5, "mode": "keyword"}, "rewrite_query": true}))
        .unwrap();
        assert_eq!(
            (read.max_results, read.mode, read.least_score),
            (100, Some(Mode::Keyword), 0.5)
        );
        assert_eq!(
            read.filter.as_deref(),
            Some(r#"{"type":"eq","key":"k","value":1}"#)
        );
        assert_eq!(
            request(&json!({"query": ["a", "b"]})).unwrap().queries,
            ["a", "b"]
        );
    }

    #[test]
    fn names_the_wrong_field() {
        for (body, expected) in [
            (json!({}), "query"),
            (json!({"query": []}), "query"),
            (json!({"query": {"a": 1}}), "query"),
            (
                json!({"query": "q", "max_num_results": 101}),
                "max_num_results",
            ),
            (json!({"query": "q", "filters": []}), "filters"),
            (
                json!({"query": "q", "ranking_options": {"mode": "fast"}}),
                "ranking_options.mode",
            ),
        ] {
            let error = request(&body).unwrap_err();
            assert_eq!(
                *error.kind(),
                ambit_types::ErrorKind::Invalid {
                    param: Some(expected.to_owned())
                },
                "{body}"
            );
        }
    }

    #[test]
    fn merges_by_rank_without_repeats() {
        let request = request(&json!({"query": ["a", "b"], "max_num_results": 3, "ranking_options": {"score_threshold": 0.1}})).unwrap();
        let answers = vec![
            vec![passage("1", 0.9), passage("2", 0.8), passage("3", 0.7)],
            vec![passage("2", 0.3), passage("4", 0.05)],
        ];
        let order: Vec<_> = request
            .merge(answers)
            .into_iter()
            .map(|passage| passage.document)
            .collect();
        assert_eq!(order, ["1", "2", "3"]);
    }

    #[test]
    fn a_result_can_be_cited() {
        let request = request(&json!({"query": "q"})).unwrap();
        let page = page(&request, &[passage("doc.md", 0.5)]);
        let result = &page["data"][0];
        assert_eq!(
            (&result["file_id"], &result["filename"], &result["score"]),
            (&json!("doc.md"), &json!("doc.md"), &json!(0.5))
        );
        assert_eq!(
            result["attributes"],
            json!({"anchor": "a#1", "headings": "A / B"})
        );
    }
}
