use crate::support::{admitted, block_on, facts, runtime};
use ambit_capabilities::routing::{Directory, RouteError, Router};
use ambit_types::TenantId;
use std::collections::HashMap;

fn directory(acme: TenantId, globex: TenantId) -> Directory {
    Directory::new(
        vec!["localhost".to_owned()],
        HashMap::from([
            ("acme".parse().unwrap(), acme),
            ("globex".parse().unwrap(), globex),
        ]),
        HashMap::from([("xn--bcher-kva.example".to_owned(), globex)]),
    )
}

async fn ask(router: &Router, host: &str) -> String {
    match router.route(&facts(host)).await {
        Ok(route) => format!("{} {}", route.tenant, route.canonical_host),
        Err(RouteError::Malformed(_)) => "malformed".to_owned(),
        Err(RouteError::Unknown) => "unknown".to_owned(),
        Err(RouteError::Failure(failure)) => panic!("{host}: {failure}"),
    }
}

#[test]
fn names_lead_to_their_tenant_and_answers_do_not_outlive_the_directory() {
    block_on(async {
        let (acme, globex) = (TenantId::new(), TenantId::new());
        let router = Router::new(
            runtime(),
            &admitted("routing-subdomain"),
            directory(acme, globex),
        )
        .unwrap();
        for _ in 0..2 {
            // The second time from the cache.
            assert_eq!(
                ask(&router, "ACME.localhost:8080").await,
                format!("{acme} acme.localhost")
            );
            assert_eq!(
                ask(&router, "Bücher.example.").await,
                format!("{globex} xn--bcher-kva.example")
            );
            assert_eq!(ask(&router, "nobody.localhost").await, "unknown");
            assert_eq!(ask(&router, "127.0.0.1:8080").await, "unknown");
            assert_eq!(ask(&router, "acme@localhost").await, "malformed");
        }
        assert!(router.cached("ACME.localhost:8080").unwrap().is_ok());
        assert!(router.cached("never.localhost").is_none());
        // A name may be of any length: it is judged, and not kept.
        let long = "a".repeat(100_000);
        assert_eq!(ask(&router, &long).await, "malformed");
        assert!(router.cached(&long).is_none());

        router.replace(directory(globex, acme));
        assert!(router.cached("ACME.localhost:8080").is_none());
        assert_eq!(
            ask(&router, "ACME.localhost:8080").await,
            format!("{globex} acme.localhost")
        );
    });
}
