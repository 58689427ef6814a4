//! `POST /v1/moderations`: the tenant's guardrail in OpenAI's shape.
//!
//! Beyond OpenAI's: the request may name a `stage`; a result says what the rules would do (`action`, `severity`) and where each finding
//! stands (`spans`, in code points; of very many the first ones, and `spans_left_out` how many more). The text itself is not changed and not sent back.

use super::{codepoints, json};
use crate::{data::Call, error::OpenAiError};
use ambit_capabilities::guardrail::{Checked, Severity, Stage};
use ambit_types::{Error, Scope};
use axum::{
    Json,
    body::Body,
    response::{IntoResponse as _, Response},
};
use serde_json::{Map, Value, json};

/// Texts in one request.
const MAX_INPUTS: usize = 256;
/// Present in every result, so that a client may index without asking; any further category appears where it was found.
const FAMILIES: [&str; 3] = ["prompt-injection", "pii", "secret"];

#[derive(Debug, PartialEq)]
pub(crate) struct ModerationRequest {
    pub(crate) inputs: Vec<String>,
    pub(crate) stage: Stage,
}

pub(crate) async fn create(call: Call, body: Body) -> Result<Response, OpenAiError> {
    call.require(Scope::Moderate)?;
    let ambit = call.tenant.models.clone().narrowed_by_caller(&call.context);
    let _acting = (ambit.acting()).map_err(|error| Error::forbidden(error.to_string()))?;
    let read = call.gateway.body(body).await?;
    let request = parse(&read.bytes)?;
    let checked = call
        .tenant
        .guardrail
        .check_all(&call.context, request.stage, request.inputs.clone())
        .await
        .map_err(Error::from)?;
    for checked in &checked {
        call.gateway.metrics.judged(
            &call.context.tenant_slug,
            None,
            request.stage,
            checked.action(),
        );
    }
    let results: Vec<_> = request
        .inputs
        .iter()
        .zip(&checked)
        .map(|(text, checked)| result(text, checked))
        .collect();
    let id = format!("modr-{}", call.context.request);
    Ok(Json(json!({"id": id, "model": "guardrail", "results": results})).into_response())
}

/// Reads a body. `model` and what else OpenAI's clients send means nothing here.
pub(crate) fn parse(body: &[u8]) -> Result<ModerationRequest, Error> {
    let mut map = json::object(body)?;
    let inputs = json::required(&mut map, "input", inputs)?;
    let stage = json::optional(&mut map, "stage", |value| {
        let name = json::string(value)?;
        Stage::ALL
            .into_iter()
            .find(|stage| stage.as_str() == name)
            .ok_or_else(|| {
                json::Bad::new("expected input, retrieved, tool-result, output or ingest")
            })
    })?;
    Ok(ModerationRequest {
        inputs,
        stage: stage.unwrap_or(Stage::Input),
    })
}

/// A text is one input, an array of texts one each, an array of parts (OpenAI's multi-modal form) one together.
fn inputs(value: Value) -> Result<Vec<String>, json::Bad> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) if items.is_empty() => Err(json::Bad::new("needs at least one text")),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            let parts = json::array(Value::Array(items), MAX_INPUTS, |part| {
                let mut part = json::map(part)?;
                match json::required(&mut part, "type", json::string)?.as_str() {
                    "text" => json::required(&mut part, "text", json::string),
                    _ => Err(json::Bad::new("only text can be judged").in_field("type")),
                }
            })?;
            Ok(vec![parts.join("\n")])
        }
        Value::Array(items) => json::array(Value::Array(items), MAX_INPUTS, json::string),
        other => Err(json::wrong(&other, "a string or an array of strings")),
    }
}

/// One element of `results`.
pub(crate) fn result(text: &str, checked: &Checked) -> Value {
    let mut scores: Map<String, Value> = FAMILIES
        .iter()
        .map(|family| ((*family).to_owned(), 0.0.into()))
        .collect();
    let mut worst = None;
    let rejected = checked
        .rejection
        .iter()
        .map(|rejection| (rejection.category.as_str(), rejection.severity));
    let found = checked.findings.categories();
    for (category, severity) in found
        .map(|(name, found)| (name, found.worst))
        .chain(rejected)
    {
        worst = worst.max(Some(severity));
        let family = category.split('/').next().unwrap_or(category);
        for name in [category, family] {
            let score = scores
                .get(name)
                .and_then(Value::as_f64)
                .unwrap_or(0.0)
                .max(score(severity));
            scores.insert(name.to_owned(), score.into());
        }
    }
    let categories: Map<String, Value> = scores
        .iter()
        .map(|(name, score)| (name.clone(), (score.as_f64() > Some(0.0)).into()))
        .collect();
    let input_types: Map<String, Value> = scores
        .keys()
        .map(|name| (name.clone(), Value::from(vec!["text"])))
        .collect();
    let kept = checked.findings.kept();
    let ranges: Vec<_> = kept
        .iter()
        .map(|finding| (finding.start, finding.end))
        .collect();
    let spans: Vec<Value> = codepoints::from_bytes(text, &ranges)
        .into_iter()
        .zip(kept)
        .map(|((start, end), finding)| json!({"start": start, "end": end, "category": finding.category}))
        .collect();
    json!({
        "flagged": worst.is_some(),
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": input_types,
        "action": checked.action(),
        "severity": worst,
        "spans": spans,
        // Those beyond what one answer shows.
        "spans_left_out": checked.findings.more(),
    })
}

/// OpenAI's scores run from 0 to 1; ours are the four severities on that scale.
fn score(severity: Severity) -> f64 {
    match severity {
        Severity::Low => 0.25,
        Severity::Medium => 0.5,
        Severity::High => 0.75,
        Severity::Critical => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_capabilities::guardrail::{Finding, Findings, Rejection, Room};

    fn param(body: &Value) -> String {
        match parse(body.to_string().as_bytes()).unwrap_err().kind() {
            ambit_types::ErrorKind::Invalid { param } => param.clone().unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_every_form_of_input() {
        let inputs = |body: Value| parse(body.to_string().as_bytes()).unwrap().inputs;
        assert_eq!(
            inputs(json!({"input": "a", "model": "omni-moderation-latest"})),
            ["a"]
        );
        assert_eq!(inputs(json!({"input": ["a", "b"]})), ["a", "b"]);
        assert_eq!(
            inputs(
                json!({"input": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
            ),
            ["a\nb"]
        );
        assert_eq!(
            parse(br#"{"input":"","stage":"tool-result"}"#)
                .unwrap()
                .stage,
            Stage::ToolResult
        );
    }

    #[test]
    fn names_the_wrong_field() {
        assert_eq!(param(&json!({})), "input");
        assert_eq!(param(&json!({"input": []})), "input");
        assert_eq!(param(&json!({"input": ["a", 1]})), "input[1]");
        assert_eq!(
            param(&json!({"input": [{"type": "image_url"}]})),
            "input[0].type"
        );
        assert_eq!(param(&json!({"input": vec!["a"; MAX_INPUTS + 1]})), "input");
        assert_eq!(param(&json!({"input": "a", "stage": "Output"})), "stage");
    }

    #[test]
    fn shows_findings_in_code_points() {
        let email = Finding {
            start: 3,
            end: 8,
            category: "pii/email".to_owned(),
            severity: Severity::Medium,
        };
        let (mut findings, mut room) = (Findings::default(), Room::new(1));
        findings
            .take(vec![email.clone(), email], &mut room)
            .unwrap();
        let checked = Checked {
            text: "ü [e-mail]".to_owned(),
            masks: 1,
            findings,
            rejection: None,
        };
        let result = result("ü a@b.c", &checked);
        assert_eq!(
            result["spans"],
            json!([{"start": 2, "end": 7, "category": "pii/email"}])
        );
        assert_eq!(result["spans_left_out"], 1);
        assert_eq!(
            (&result["flagged"], &result["action"], &result["severity"]),
            (&json!(true), &json!("mask"), &json!("medium"))
        );
        assert_eq!(
            (
                &result["categories"]["pii"],
                &result["categories"]["pii/email"]
            ),
            (&json!(true), &json!(true))
        );
        assert_eq!(
            (
                &result["categories"]["secret"],
                &result["category_scores"]["pii"]
            ),
            (&json!(false), &json!(0.5))
        );
    }

    #[test]
    fn a_rejection_counts_without_a_span() {
        let rejection = Some(Rejection {
            category: "guardrail-failure".to_owned(),
            severity: Severity::High,
        });
        let checked = Checked {
            text: String::new(),
            masks: 0,
            findings: Findings::default(),
            rejection,
        };
        let result = result("x", &checked);
        assert_eq!(
            (&result["flagged"], &result["action"]),
            (&json!(true), &json!("reject"))
        );
        let clean = Checked {
            text: "x".to_owned(),
            masks: 0,
            findings: Findings::default(),
            rejection: None,
        };
        assert_eq!(super::result("x", &clean)["flagged"], false);
    }
}
