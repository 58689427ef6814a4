//! Tokens for the tests of this module.

use super::{Claims, Delegation, Signer, Token};
use crate::Permissions;
use ambit_types::{AgentName, SessionId, TenantId, TokenId};
use std::sync::Arc;

pub(super) const NOW: u64 = 1_795_000_000;
pub(super) const ISSUER: &str = "https://ambit.example";
pub(super) const SEED: [u8; 32] = [7; 32];
pub(super) const OTHER_SEED: [u8; 32] = [8; 32];

pub(super) fn signer() -> Signer {
    Signer::from_seed(&SEED).unwrap()
}

/// Whom nobody here trusts.
pub(super) fn other() -> Signer {
    Signer::from_seed(&OTHER_SEED).unwrap()
}

pub(super) fn claims() -> Claims {
    Claims::new(
        ISSUER,
        TenantId::new(),
        "key:3f9a",
        TokenId::new(),
        NOW,
        NOW + 3600,
    )
}

/// One with every claim.
pub(super) fn full() -> Token {
    let layer = |text| Arc::new(Permissions::parse(text).unwrap());
    let root = Token::issue(Claims {
        layers: vec![layer("models = [\"openai/*\"]\ncollections = [\"read:*\"]")],
        budget_micros: Some(5_000_000),
        ..claims()
    })
    .unwrap();
    let request = Delegation {
        grants: vec![layer(
            "[[http]]\norigin = \"https://*.example\"\nmethods = [\"GET\"]",
        )],
        agent: Some("assistant".parse::<AgentName>().unwrap()),
        session: Some(SessionId::new()),
        ..Delegation::new(TokenId::new())
    };
    root.delegate(request, NOW).unwrap()
}
