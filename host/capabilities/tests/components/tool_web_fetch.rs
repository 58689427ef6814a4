use crate::{
    server::{Manners, Server},
    support::{Layers, admitted_with, block_on, context, runtime},
};
use ambit_capabilities::tool::{Outbound, Reach, ToolCall, ToolError, ToolOutput, Toolbox};
use ambit_egress::Egress;
use ambit_policy::Permissions;
use std::sync::Arc;

const PAGE: &str = "<html><head><title>Ambits</title></head><body><h1>What remains</h1><p>An ambit only narrows.</p></body></html>";

/// For this origin, and one that is never asked, because the component needs some of `https`.
fn grant(origin: &str) -> Permissions {
    let rule = |origin: &str| format!("[[http]]\norigin = \"{origin}\"\nmethods = [\"GET\"]\n");
    Permissions::parse(&[rule(origin), rule("https://granted.example")].concat()).unwrap()
}

async fn fetch(tools: &Toolbox, narrowing: &Layers, url: &str) -> Result<ToolOutput, ToolError> {
    let arguments = serde_json::json!({ "url": url }).to_string();
    let (context, narrowing) = narrowing.of(&context("acme"));
    tools
        .invoke(
            &context,
            &narrowing,
            ToolCall {
                id: "1".to_owned(),
                name: "fetch_page".to_owned(),
                arguments,
            },
        )
        .await
}

#[test]
fn reads_pages_of_granted_origins_only() {
    block_on(async {
        let server = Server::start(Manners::Page(PAGE.to_owned())).await;
        let other = Server::start(Manners::Page("secret".to_owned())).await;
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 4));
        let granted = admitted_with(
            "tool-web-fetch",
            &grant(&format!("http://{}", server.address)),
        );
        let tools = Toolbox::new(runtime(), &granted, reach.clone())
            .await
            .unwrap();
        let all = Layers::default();

        let page = fetch(&tools, &all, &server.url()).await.unwrap();
        assert!(
            page.content.contains("An ambit only narrows."),
            "{}",
            page.content
        );
        for closed in [
            other.url().as_str(),
            "https://example.com/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]:1/",
        ] {
            let denied = fetch(&tools, &all, closed).await;
            assert!(
                matches!(denied, Err(ToolError::Denied(_))),
                "{closed}: {denied:?}"
            );
        }
        for odd in [
            "http://user@127.0.0.1/",
            "file:///etc/passwd",
            "http://127.0.0.1\r\nx: y/",
            "127.0.0.1",
        ] {
            assert!(fetch(&tools, &all, odd).await.is_err(), "{odd}");
        }

        // Tenant and token narrow further; neither can open what the operator left out.
        let path = Arc::new(
            Permissions::parse(&format!(
                "[[http]]\norigin = \"http://{}\"\nmethods = [\"GET\"]\npath = \"/public\"\n",
                server.address
            ))
            .unwrap(),
        );
        let elsewhere = Arc::new(grant(&format!("http://{}", other.address)));
        for narrowing in [
            Layers {
                tenant: Some(path.clone()),
                token: None,
            },
            Layers {
                tenant: None,
                token: Some(path),
            },
            Layers {
                tenant: Some(elsewhere.clone()),
                token: None,
            },
        ] {
            assert!(matches!(
                fetch(&tools, &narrowing, &server.url()).await,
                Err(ToolError::Denied(_))
            ));
        }
        let widened = Layers {
            tenant: Some(elsewhere.clone()),
            token: Some(elsewhere),
        };
        assert!(matches!(
            fetch(&tools, &widened, &other.url()).await,
            Err(ToolError::Denied(_))
        ));

        // A redirect is followed only where its target is granted too.
        let away = Server::start(Manners::Redirect(other.url())).await;
        let origin = format!("http://{}", away.address);
        let granted = admitted_with("tool-web-fetch", &grant(&origin));
        let tools = Toolbox::new(runtime(), &granted, reach).await.unwrap();
        let denied = fetch(&tools, &all, &away.url()).await;
        assert!(matches!(denied, Err(ToolError::Denied(_))), "{denied:?}");
        assert_eq!(other.most_open(), 0, "nobody ever connected there");
    });
}
