//! Control data: what is written is read back, for its tenant only, and every change moves its epoch.

use super::{on_both, tenant};
use crate::{
    ApiKey, Component, Digest, EpochKind, Grant, GuardrailRule, HostName, InstallationEpochKind,
    Issuer, SlotBinding, StoreError, TenantStore,
};
use serde_json::json;

fn key(id: &str) -> ApiKey {
    ApiKey {
        id: id.into(),
        name: "laptop".into(),
        principal: "alice".into(),
        secret_hash: Digest([7; 32]),
        scopes: vec!["chat".into(), "retrieve".into()],
        last_four: "x9_z".into(),
        created_ms: 1,
        expires_ms: Some(5_000_000_000_000),
        revoked_ms: None,
        permissions: None,
    }
}

fn component(byte: u8) -> Component {
    Component {
        digest: Digest([byte; 32]),
        name: "ambit:auth-api-key".parse().unwrap(),
        version: "0.1.0".into(),
        kind: "auth".into(),
        manifest: "[component]\n".into(),
        installed_ms: i64::from(byte),
    }
}

async fn epoch(tenant: &TenantStore, kind: EpochKind) -> i64 {
    tenant
        .epochs()
        .await
        .unwrap()
        .iter()
        .find(|epoch| epoch.kind == kind)
        .map_or(0, |epoch| epoch.value)
}

#[tokio::test]
async fn tenants_and_host_names_are_unique_over_the_installation() {
    on_both(async |store| {
        let operator = store.store.operator();
        let (acme, rows) = tenant(store, "acme").await;
        let (globex, _) = tenant(store, "globex").await;
        assert!(matches!(
            operator.create_tenant(acme.slug.clone(), "again").await,
            Err(StoreError::Conflict { what: "tenant" })
        ));
        assert_eq!(
            operator.tenants().await.unwrap(),
            [acme.clone(), globex.clone()]
        );
        assert_eq!(
            operator.tenant_by_slug(&globex.slug).await.unwrap(),
            Some(globex.clone())
        );
        assert_eq!(
            operator
                .tenant_by_slug(&"nobody".parse().unwrap())
                .await
                .unwrap(),
            None
        );
        assert_eq!(rows.tenant().await.unwrap(), Some(acme.clone()));

        let name = HostName {
            tenant: acme.id,
            name: "agents.example.com".into(),
        };
        operator.add_host_name(&name).await.unwrap();
        let stolen = HostName {
            tenant: globex.id,
            ..name.clone()
        };
        assert!(matches!(
            operator.add_host_name(&stolen).await,
            Err(StoreError::Conflict { what: "host name" })
        ));
        assert!(!operator.remove_host_name(&stolen).await.unwrap());
        assert_eq!(
            operator.host_names().await.unwrap(),
            std::slice::from_ref(&name)
        );
        let before = operator
            .installation_epoch(InstallationEpochKind::Directory)
            .await
            .unwrap();
        assert!(operator.remove_host_name(&name).await.unwrap());
        assert_eq!(
            operator
                .installation_epoch(InstallationEpochKind::Directory)
                .await
                .unwrap(),
            before + 1
        );

        let nobody = HostName {
            tenant: ambit_types::TenantId::new(),
            name: "x.example".into(),
        };
        assert!(matches!(
            operator.add_host_name(&nobody).await,
            Err(StoreError::NotFound { .. })
        ));
    })
    .await;
}

#[tokio::test]
async fn keys_belong_to_one_tenant_and_are_revoked_once() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        acme.create_key(&key("a1")).await.unwrap();
        assert!(matches!(
            acme.create_key(&key("a1")).await,
            Err(StoreError::Conflict { what: "key" })
        ));
        assert_eq!(acme.keys().await.unwrap(), [key("a1")]);
        assert_eq!(globex.keys().await.unwrap(), []);
        assert_eq!(globex.key("a1").await.unwrap(), None);
        assert!(!globex.revoke_key("a1", 9).await.unwrap());
        // The same public id may be another tenant's.
        globex
            .create_key(&ApiKey {
                principal: "bob".into(),
                expires_ms: None,
                ..key("a1")
            })
            .await
            .unwrap();

        let before = epoch(&acme, EpochKind::Keys).await;
        assert!(acme.revoke_key("a1", 9).await.unwrap());
        assert!(!acme.revoke_key("a1", 10).await.unwrap());
        assert_eq!(epoch(&acme, EpochKind::Keys).await, before + 1);
        assert_eq!(acme.key("a1").await.unwrap().unwrap().revoked_ms, Some(9));
        assert_eq!(globex.key("a1").await.unwrap().unwrap().revoked_ms, None);
        assert_eq!(epoch(&globex, EpochKind::Keys).await, 1);
        assert_eq!(
            store.store.operator().tenant_epochs().await.unwrap().len(),
            2
        );
    })
    .await;
}

#[tokio::test]
async fn issuers_replace_each_other_whole() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let mut issuer = Issuer {
            issuer: "https://login.example.com/".into(),
            audiences: vec!["ambit".into()],
            algorithms: vec!["ES256".into()],
            types: vec![],
            leeway: 30,
            scopes: vec!["chat".into()],
            jwks_uri: Some("https://login.example.com/keys".into()),
            jwks: None,
        };
        acme.put_issuer(&issuer).await.unwrap();
        issuer.jwks_uri = None;
        issuer.jwks = Some(json!({ "keys": [] }));
        issuer.leeway = u32::MAX;
        acme.put_issuer(&issuer).await.unwrap();
        assert_eq!(acme.issuers().await.unwrap(), std::slice::from_ref(&issuer));
        assert_eq!(epoch(&acme, EpochKind::Issuers).await, 2);
        assert!(acme.remove_issuer(&issuer.issuer).await.unwrap());
        assert!(!acme.remove_issuer(&issuer.issuer).await.unwrap());
        assert_eq!(epoch(&acme, EpochKind::Issuers).await, 3);
    })
    .await;
}

#[tokio::test]
async fn components_grants_and_slots() {
    on_both(async |store| {
        let operator = store.store.operator();
        let (_, acme) = tenant(store, "acme").await;
        for byte in [2, 1, 2] {
            operator.install_component(&component(byte)).await.unwrap();
        }
        assert_eq!(
            operator.components().await.unwrap(),
            [component(1), component(2)]
        );
        assert_eq!(
            operator.component(Digest([2; 32])).await.unwrap(),
            Some(component(2))
        );
        assert_eq!(operator.component(Digest([3; 32])).await.unwrap(), None);
        assert_eq!(
            operator
                .installation_epoch(InstallationEpochKind::Components)
                .await
                .unwrap(),
            2
        );

        let mut grant = Grant {
            component: component(1).name,
            permissions: json!({ "http": [] }),
            limits: json!({}),
        };
        operator.put_grant(&grant).await.unwrap();
        acme.put_grant(&grant).await.unwrap();
        grant.limits = json!({ "memory": "1MiB" });
        operator.put_grant(&grant).await.unwrap();
        assert_eq!(
            operator.grants().await.unwrap(),
            std::slice::from_ref(&grant)
        );
        assert_eq!(
            operator.grant(&grant.component).await.unwrap(),
            Some(grant.clone())
        );
        assert_eq!(acme.grants().await.unwrap()[0].limits, json!({}));
        assert!(operator.remove_grant(&grant.component).await.unwrap());
        assert!(acme.remove_grant(&grant.component).await.unwrap());
        assert!(!acme.remove_grant(&grant.component).await.unwrap());

        let slot = |byte| SlotBinding {
            slot: "auth/0".into(),
            component: Digest([byte; 32]),
        };
        operator.bind_default_slot(&slot(1)).await.unwrap();
        acme.bind_slot(&slot(1)).await.unwrap();
        acme.bind_slot(&slot(2)).await.unwrap();
        assert_eq!(operator.default_slots().await.unwrap(), [slot(1)]);
        assert_eq!(acme.slots().await.unwrap(), [slot(2)]);
        assert!(matches!(
            acme.bind_slot(&slot(9)).await,
            Err(StoreError::NotFound { .. })
        ));
        assert!(matches!(
            operator.bind_default_slot(&slot(9)).await,
            Err(StoreError::NotFound { .. })
        ));
        assert!(acme.unbind_slot("auth/0").await.unwrap());
        assert!(operator.unbind_default_slot("auth/0").await.unwrap());
        assert_eq!(epoch(&acme, EpochKind::Slots).await, 3);
    })
    .await;
}

#[tokio::test]
async fn rules_and_agents() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let rule = |category: &str| GuardrailRule {
            stage: "input".into(),
            category: category.into(),
            action: "mask".into(),
        };
        acme.replace_rules(&[rule("pii"), rule("secret")])
            .await
            .unwrap();
        acme.replace_rules(&[rule("prompt-injection")])
            .await
            .unwrap();
        assert_eq!(acme.rules().await.unwrap(), [rule("prompt-injection")]);
        // A rule twice is refused, and what was there stays.
        assert!(
            acme.replace_rules(&[rule("pii"), rule("pii")])
                .await
                .is_err()
        );
        assert_eq!(acme.rules().await.unwrap(), [rule("prompt-injection")]);
        assert_eq!(epoch(&acme, EpochKind::Rules).await, 2);

        let name = "assistant".parse().unwrap();
        let definition = json!({ "model": "extractive", "tools": ["web-fetch"] });
        assert_eq!(
            acme.apply_agent(&name, &definition).await.unwrap().version,
            1
        );
        assert_eq!(
            acme.apply_agent(&name, &definition).await.unwrap().version,
            1
        );
        assert_eq!(epoch(&acme, EpochKind::Agents).await, 1);
        let changed = acme.apply_agent(&name, &json!({})).await.unwrap();
        assert_eq!((changed.version, &changed.definition), (2, &json!({})));
        assert_eq!(acme.agents().await.unwrap(), std::slice::from_ref(&changed));
        assert_eq!(acme.agent(&name).await.unwrap(), Some(changed));
        assert!(acme.remove_agent(&name).await.unwrap());
        assert_eq!(acme.agent(&name).await.unwrap(), None);
        assert_eq!(epoch(&acme, EpochKind::Agents).await, 3);
    })
    .await;
}
