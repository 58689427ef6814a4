//! A tool that carries its secret around: it holds a placeholder, and only the agreed origin and header ever see the value.

use crate::{
    server::{Manners, Server},
    support::{Layers, block_on, context, hostile, runtime},
};
use ambit_capabilities::tool::{Outbound, Reach, Set, ToolCall, Toolbox, Values};
use ambit_egress::Egress;
use ambit_policy::Permissions;
use ambit_types::Secret;
use std::{collections::HashMap, sync::Arc};

const EVERYBODYS: &str = "everybodys-0123456789";
const GLOBEXS: &str = "globexs-0123456789";
const PLACEHOLDER: &str = "ambit-secret-";

fn set(region: &str, token: &str) -> Set {
    let mut set = Set::default();
    set.plain("region", region.to_owned()).unwrap();
    set.plain("unasked", "never".to_owned()).unwrap();
    set.secret("api-token", Secret::new(token)).unwrap();
    set
}

/// The guest with a secret for one origin, and a second origin it may talk to without.
struct Stage {
    tools: Toolbox,
    agreed: Server,
    other: Server,
}

impl Stage {
    async fn start() -> Self {
        let (agreed, other) = (
            Server::start(Manners::Echo).await,
            Server::start(Manners::Echo).await,
        );
        let http = |server: &Server| {
            format!(
                "[[permissions.http]]\norigin = \"http://{}\"\nmethods = [\"POST\"]\n",
                server.address
            )
        };
        let tables = format!(
            "{}{}[permissions]\nconfig = [\"region\"]\n[[permissions.secrets]]\nname = \"api-token\"\nheader = \"authorization\"\norigin = \"http://{}\"\n",
            http(&agreed),
            http(&other),
            agreed.address
        );
        let own = HashMap::from([("globex".parse().unwrap(), set("us", GLOBEXS))]);
        let values = Values::new(set("eu", EVERYBODYS), own).unwrap();
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 4));
        let tools = Toolbox::new(
            runtime(),
            &hostile("secret_bearer", &tables),
            reach.with_values(Arc::new(values)),
        )
        .await
        .unwrap();
        Self {
            tools,
            agreed,
            other,
        }
    }

    async fn carry(&self, tenant: &str, to: &Server, place: &str) -> String {
        self.narrowed(
            &Layers::default(),
            tenant,
            to,
            &format!("{place} api-token"),
        )
        .await
    }

    async fn narrowed(&self, narrowing: &Layers, tenant: &str, to: &Server, what: &str) -> String {
        let argument = format!("{} {what}", to.address);
        let call = ToolCall {
            id: "1".to_owned(),
            name: "misbehave".to_owned(),
            arguments: serde_json::json!({ "argument": argument }).to_string(),
        };
        let (context, narrowing) = narrowing.of(&context(tenant));
        let output = self.tools.invoke(&context, &narrowing, call).await;
        let content = output.unwrap().content;
        assert!(
            !content.contains(EVERYBODYS) && !content.contains(GLOBEXS),
            "the guest has a value: {content}"
        );
        content
    }
}

#[test]
fn the_guest_has_a_placeholder_and_the_agreed_origin_the_value() {
    block_on(async {
        let stage = Stage::start().await;
        let (agreed, other) = (&stage.agreed, &stage.other);

        let placeholder = stage.carry("acme", agreed, "tell").await;
        assert!(placeholder.starts_with(PLACEHOLDER), "{placeholder}");
        assert_ne!(
            placeholder,
            stage.carry("acme", agreed, "tell").await,
            "worth nothing in the next call"
        );

        // The server echoes the value; that answer is withheld.
        for (tenant, value) in [("acme", EVERYBODYS), ("globex", GLOBEXS)] {
            let answer = stage.carry(tenant, agreed, "header:authorization").await;
            let heard = agreed.heard().concat();
            assert!(
                heard.contains(&format!("authorization: Bearer {value}\r\n"))
                    && !heard.contains(PLACEHOLDER),
                "{tenant}: {heard}"
            );
            assert!(answer.starts_with("failed: "), "{tenant}: {answer}");
        }

        // Where the ambit does not agree, nothing is sent.
        for (to, place) in [
            (agreed, "header:x-copy"),
            (agreed, "header:cookie"),
            (other, "header:authorization"),
        ] {
            let answer = stage.carry("acme", to, place).await;
            assert!(answer.contains("HttpRequestDenied"), "{place}: {answer}");
            assert!(to.heard().is_empty(), "{place}");
        }

        // In path and body the placeholder is a text like any other, worth nothing.
        for (to, place) in [
            (agreed, "path"),
            (agreed, "body"),
            (other, "path"),
            (other, "body"),
        ] {
            let answer = stage.carry("acme", to, place).await;
            let heard = to.heard().concat();
            assert!(heard.contains(PLACEHOLDER), "{place}: {heard}");
            assert!(!heard.contains(EVERYBODYS), "{place}: {heard}");
            assert_eq!(answer, heard, "{place}: delivered as it came");
        }
    });
}

#[test]
fn what_is_outside_the_ambit_has_no_value() {
    block_on(async {
        let stage = Stage::start().await;
        let all = Layers::default();
        let ask = async |narrowing: &Layers, tenant: &str, what: &str| {
            stage.narrowed(narrowing, tenant, &stage.agreed, what).await
        };
        assert_eq!(ask(&all, "acme", "tell region").await, "eu");
        assert_eq!(ask(&all, "globex", "tell region").await, "us");
        for name in ["unasked", "no-such", "", "API-TOKEN"] {
            assert_eq!(
                ask(&all, "acme", &format!("tell {name}")).await,
                "none",
                "{name}"
            );
        }
        // A secret is asked for by its name; listing leaves it out.
        assert_eq!(ask(&all, "acme", "list").await, r#"Ok([("region", "eu")])"#);

        // Tenant and token narrow by value: the same component, linked as before.
        let grant = |text: &str| Some(Arc::new(Permissions::parse(text).unwrap()));
        let origin = |server: &Server| format!("http://{}", server.address);
        let token = |header: &str, server: &Server| {
            format!(
                "secrets = [{{ name = \"api-token\", header = \"{header}\", origin = \"{}\" }}]",
                origin(server)
            )
        };
        for narrowed in [
            grant(""),
            grant("config = [\"other\"]"),
            grant(&token("x-token", &stage.agreed)),
            grant(&token("authorization", &stage.other)),
        ] {
            for narrowing in [
                Layers {
                    tenant: narrowed.clone(),
                    token: None,
                },
                Layers {
                    tenant: None,
                    token: narrowed.clone(),
                },
            ] {
                assert_eq!(ask(&narrowing, "acme", "tell api-token").await, "none");
                assert_eq!(ask(&narrowing, "acme", "tell region").await, "none");
                assert_eq!(ask(&narrowing, "acme", "list").await, "Ok([])");
            }
        }
        let kept = Layers {
            tenant: grant(&token("authorization", &stage.agreed)),
            token: None,
        };
        assert!(
            ask(&kept, "acme", "tell api-token")
                .await
                .starts_with(PLACEHOLDER)
        );
        assert_eq!(ask(&kept, "acme", "tell region").await, "none");
    });
}
