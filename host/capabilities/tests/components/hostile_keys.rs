//! A tool that keeps entries and tries those of others: it has what the ambit covers of its own tenant's, and no more.

use crate::support::{Layers, block_on, context_of, hostile, runtime};
use ambit_capabilities::tool::{Outbound, Reach, ToolCall, Toolbox};
use ambit_egress::Egress;
use ambit_policy::Permissions;
use ambit_store::{Store, StoreConfig};
use ambit_types::TenantId;
use std::sync::Arc;

struct Stage {
    tools: Toolbox,
    acme: TenantId,
    globex: TenantId,
    _data: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::sqlite(data.path().join("ambit.db")))
            .await
            .unwrap();
        let tenant = async |slug: &str| {
            let operator = store.operator();
            let created = operator.create_tenant(slug.parse().unwrap(), slug).await;
            created.unwrap().id
        };
        let (acme, globex) = (tenant("acme").await, tenant("globex").await);
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 4)).with_store(store);
        let tables = "[permissions]\nkeyvalue = [\"cache/*\", \"state/mine*\"]\n";
        let tools = Toolbox::new(runtime(), &hostile("key_keeper", tables), reach)
            .await
            .unwrap();
        Self {
            tools,
            acme,
            globex,
            _data: data,
        }
    }

    async fn ask(&self, tenant: TenantId, narrowing: &Layers, what: &str) -> String {
        let call = ToolCall {
            id: "1".to_owned(),
            name: "misbehave".to_owned(),
            arguments: serde_json::json!({ "argument": what }).to_string(),
        };
        let (context, narrowing) = narrowing.of(&context_of(tenant, "any"));
        let output = self.tools.invoke(&context, &narrowing, call).await;
        output.unwrap().content
    }
}

#[test]
fn a_tool_keeps_entries_of_its_tenant_within_its_ambit() {
    block_on(async {
        let stage = Stage::start().await;
        let all = Layers::default();
        let acme = async |what: &str| stage.ask(stage.acme, &all, what).await;
        for (what, expected) in [
            ("get cache k", "Ok(None)"),
            ("set cache k hello there", "Ok(())"),
            ("get cache k", "hello there"),
            ("exists cache k", "Ok(true)"),
            ("exists cache other", "Ok(false)"),
            ("increment cache n", "Ok(1)"),
            ("increment cache n", "Ok(2)"),
            ("get cache n", "2"),
            ("set state mine-1 x", "Ok(())"),
            ("list cache", "k,n"),
            ("delete cache k", "Ok(())"),
            ("delete cache k", "Ok(())"),
            ("get cache k", "Ok(None)"),
            // Outside the ambit, whether it exists or not.
            ("get state other", "Err(Error::AccessDenied)"),
            ("set state other x", "Err(Error::AccessDenied)"),
            ("delete state other", "Err(Error::AccessDenied)"),
            ("exists state other", "Err(Error::AccessDenied)"),
            ("increment state other", "Err(Error::AccessDenied)"),
            ("get log k", "open: Error::AccessDenied"),
            // No bucket, however it is written.
            ("get cache/ k", "open: Error::NoSuchStore"),
            ("get ../cache k", "open: Error::NoSuchStore"),
            ("get Cache k", "open: Error::NoSuchStore"),
            ("get * k", "open: Error::NoSuchStore"),
        ] {
            assert_eq!(acme(what).await, expected, "{what}");
        }
        let long = acme(&format!("get cache {}", "k".repeat(300))).await;
        assert!(long.contains("key must have 1 to 256 bytes"), "{long}");
        let text = acme("increment state mine-1").await;
        assert!(text.contains("value is not a decimal number"), "{text}");
    });
}

#[test]
fn the_curious_tenant_finds_nothing_and_grants_narrow_each_key() {
    block_on(async {
        let stage = Stage::start().await;
        let all = Layers::default();
        let (acme, globex) = (stage.acme, stage.globex);
        assert_eq!(stage.ask(acme, &all, "set cache k of acme").await, "Ok(())");
        for (what, expected) in [
            ("get cache k", "Ok(None)"),
            ("exists cache k", "Ok(false)"),
            ("list cache", ""),
            ("delete cache k", "Ok(())"),
            ("increment cache k", "Ok(1)"),
            ("set cache k of globex", "Ok(())"),
        ] {
            assert_eq!(stage.ask(globex, &all, what).await, expected, "{what}");
        }
        assert_eq!(stage.ask(acme, &all, "get cache k").await, "of acme");

        assert_eq!(stage.ask(acme, &all, "set cache open-1 x").await, "Ok(())");
        let grant = Some(Arc::new(
            Permissions::parse("keyvalue = [\"cache/open*\"]").unwrap(),
        ));
        for (tenant, token) in [(grant.clone(), None), (None, grant)] {
            let narrowing = Layers { tenant, token };
            for (what, expected) in [
                ("get cache open-1", "x"),
                ("get cache k", "Err(Error::AccessDenied)"),
                ("list cache", "open-1"),
                ("get state mine-1", "open: Error::AccessDenied"),
            ] {
                assert_eq!(stage.ask(acme, &narrowing, what).await, expected, "{what}");
            }
        }
    });
}

#[test]
fn a_flood_of_writes_is_one_calls_few() {
    block_on(async {
        let stage = Stage::start().await;
        let all = Layers::default();
        let flood = stage.ask(stage.acme, &all, "flood cache k").await;
        assert!(
            flood.starts_with("256 and then") && flood.contains("too many operations"),
            "{flood}"
        );
        // Pages of a listing: each key once.
        assert_eq!(stage.ask(stage.acme, &all, "set cache z x").await, "Ok(())");
        let listed = stage.ask(stage.acme, &all, "list cache").await;
        assert_eq!(listed.split(',').count(), 257);
        assert!(listed.ends_with("k0255,z"), "{listed}");
    });
}
