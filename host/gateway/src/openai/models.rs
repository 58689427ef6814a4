//! `GET /v1/models`: what the caller may name in `model`.

use crate::{data::Call, error::OpenAiError, openai::chat_request};
use ambit_session::ModelName;
use ambit_types::{Error, Scope};
use axum::{
    Json,
    extract::Path,
    response::{IntoResponse as _, Response},
};
use chat_request::Target;
use serde_json::{Value, json};

pub(crate) async fn list(call: Call) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    let mut data: Vec<Value> = call
        .tenant
        .agents
        .values()
        .map(|agent| agent_json(&agent.definition.name, agent.updated_ms))
        .collect();
    let reachable = call.tenant.models.clone().narrowed_by_caller(&call.context);
    let providers = &call.gateway.platform.providers;
    for provider in providers.names() {
        match providers.models(provider).await {
            Ok(models) => {
                let granted = models
                    .iter()
                    .filter(|model| reachable.model(provider, &model.id).is_ok());
                data.extend(granted.map(|model| {
                    model_json(&ModelName {
                        provider: provider.clone(),
                        model: model.id.clone(),
                    })
                }));
            }
            // Agents and other providers are still there.
            Err(error) => {
                tracing::warn!(%provider, error = &error as &dyn std::error::Error, "the models of a provider cannot be listed")
            }
        }
    }
    Ok(Json(json!({"object": "list", "data": data})).into_response())
}

pub(crate) async fn show(call: Call, Path(id): Path<String>) -> Result<Response, OpenAiError> {
    call.require(Scope::Chat)?;
    let unknown = || Error::not_found("there is no such model here");
    match chat_request::target(&id).map_err(|_| unknown())? {
        Target::Agent(name) => {
            let agent = call.tenant.agents.get(&name).ok_or_else(unknown)?;
            Ok(Json(agent_json(&name, agent.updated_ms)).into_response())
        }
        Target::Model { provider, model } => {
            let reachable = call.tenant.models.clone().narrowed_by_caller(&call.context);
            let _permit = reachable.model(&provider, &model).map_err(|_| unknown())?;
            let listed = call
                .gateway
                .platform
                .providers
                .models(&provider)
                .await
                .map_err(Error::from)?;
            if !listed.iter().any(|listed| listed.id == model) {
                return Err(unknown().into());
            }
            Ok(Json(model_json(&ModelName { provider, model })).into_response())
        }
    }
}

fn agent_json(name: &str, updated_ms: i64) -> Value {
    json!({"id": name, "object": "model", "created": updated_ms / 1000, "owned_by": "ambit"})
}

/// Providers do not all say when a model was made; 0 says that we do not know.
fn model_json(name: &ModelName) -> Value {
    json!({"id": name.to_string(), "object": "model", "created": 0, "owned_by": name.provider.as_str()})
}
