//! What a tenant's guardrail does about findings.

use super::{Admin, Answer, At, one};
use ambit_capabilities::guardrail::{Action, Stage};
use ambit_session::default_rules;
use ambit_store::GuardrailRule;
use ambit_types::{Error, TenantSlug};
use axum::body::Body;
use serde::{Deserialize, Serialize};
use serde_json::json;

const MAX_RULES: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    stage: Stage,
    category: String,
    action: Action,
}

pub(super) async fn show(admin: Admin, At(slug): At<TenantSlug>) -> Answer {
    let (_, store) = admin.tenant(&slug).await?;
    view(store.rules().await?)
}

pub(super) async fn set(admin: Admin, At(slug): At<TenantSlug>, body: Body) -> Answer {
    let (tenant, store) = admin.tenant(&slug).await?;
    let new: NewRules = admin.json(body).await?;
    if new.rules.len() > MAX_RULES {
        return Err(
            Error::invalid("rules", format!("at most {MAX_RULES} rules are allowed")).into(),
        );
    }
    for (i, rule) in new.rules.iter().enumerate() {
        if !is_category(&rule.category) {
            let field = format!("rules[{i}].category");
            return Err(Error::invalid(&field, "expected parts of lower-case letters, digits and hyphens joined by `/`, as in `pii/email`").into());
        }
        if new.rules[..i]
            .iter()
            .any(|earlier| (earlier.stage, &earlier.category) == (rule.stage, &rule.category))
        {
            return Err(Error::invalid(
                &format!("rules[{i}]"),
                "this stage and category have a rule already",
            )
            .into());
        }
    }
    let rows = new.rules.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    store.replace_rules(&rows).await?;
    admin.reload(tenant.id).await?;
    view(rows)
}

/// The rules in force, and whether they are the installation's.
fn view(rows: Vec<GuardrailRule>) -> Answer {
    if !rows.is_empty() {
        return one(json!({"rules": rows, "default": false}));
    }
    let rules: Vec<_> = Stage::ALL
        .into_iter()
        .flat_map(|stage| {
            default_rules(stage).into_iter().map(move |rule| Rule {
                stage,
                category: rule.category,
                action: rule.action,
            })
        })
        .collect();
    one(json!({"rules": rules, "default": true}))
}

fn row(rule: &Rule) -> Result<GuardrailRule, Error> {
    // The word of an action is the one it has in JSON.
    let action = serde_json::to_value(rule.action).map_err(Error::internal)?;
    let action = action
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::internal("an action is not a word"))?;
    Ok(GuardrailRule {
        stage: rule.stage.as_str().to_owned(),
        category: rule.category.clone(),
        action,
    })
}

fn is_category(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    text.len() <= 64 && text.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories() {
        assert!(is_category("pii/credit-card") && is_category("prompt-injection"));
        for bad in ["", "/", "pii/", "PII", "pii//x", "a b", &"a".repeat(65)] {
            assert!(!is_category(bad), "{bad}");
        }
    }

    #[test]
    fn a_rule_is_stored_in_the_words_it_was_sent_in() {
        let rule = Rule {
            stage: Stage::ToolResult,
            category: "pii".to_owned(),
            action: Action::Mask,
        };
        let row = row(&rule).unwrap();
        assert_eq!(
            (row.stage.as_str(), row.action.as_str()),
            ("tool-result", "mask")
        );
        assert_eq!(serde_json::from_value::<Rule>(json!(row)).unwrap(), rule);
    }
}
