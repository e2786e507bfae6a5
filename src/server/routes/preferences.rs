//! `GET` and `PUT /v1/preferences`: the ARMs, their weights, and the profiles.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::body::Body;
use crate::config::Config;
use crate::server::error::ApiError;
use crate::server::openai::reply::with;
use crate::server::openai::steering::Steering;
use crate::server::options::MAX_WEIGHT;
use crate::server::state::Server;

/// The weights that new requests start from, and what else can be asked for.
pub async fn get(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(describe(&server, &server.defaults()))
}

/// Changes what new requests start from.
pub async fn put(State(server): State<Arc<Server>>, body: Body<Steering>) -> Result<Json<Value>, ApiError> {
    if !server.access.has_keys() {
        let message = "changing the server's default weights needs API keys: start the server with --api-key-file";
        return Err(ApiError::forbidden(message));
    }
    let mut config = Config::clone(&server.defaults());
    let weights = body.0.weights(&config)?;
    config.start_with(&weights);
    let described = describe(&server, &config);
    server.set_defaults(config);
    Ok(Json(described))
}

fn describe(server: &Server, config: &Config) -> Value {
    let arm = |arm: &crate::config::ArmSpec| {
        let known = json!({ "name": arm.name, "weight": arm.weight, "beta_r": arm.beta_r });
        let known = with(known, "range", arm.range.map(|range| json!(range)));
        let preference = |of: &crate::config::PreferenceSpec| json!({ "objective": of.objective, "value": of.value, "range": of.range });
        let preferences = arm.preferences.iter().map(preference).collect::<Vec<_>>();
        with(known, "preferences", (!preferences.is_empty()).then(|| preferences.into()))
    };
    let profile = |name: &String| {
        let weights = config.profile(name).unwrap_or_default();
        let named: IndexMap<_, _> = config.weight_names().into_iter().zip(weights).collect();
        (name.clone(), json!(named))
    };
    let sampling = &config.sampling;
    json!({
        "model": server.model,
        "chat": server.prompts.can_chat(),
        "arms": config.arms.iter().map(arm).collect::<Vec<_>>(),
        "profiles": config.profiles.keys().map(profile).collect::<Map<_, _>>(),
        "max_weight": MAX_WEIGHT,
        "max_personas": server.n_personas,
        "system": config.prompt.system,
        "sampling": { "temperature": sampling.temp, "top_p": sampling.top_p, "top_k": sampling.top_k, "min_p": sampling.min_p },
    })
}
