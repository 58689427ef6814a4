//! Live tenants over real components: what one process changes, another takes in.

mod support;

use serde_json::json;
use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};
use support::{Installation, key};

/// Waits for what must come.
async fn until(what: &str, come: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !come().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_ends_everywhere_whatever_else_cannot_be_taken_in() {
    let installation = Installation::new().await;
    let mut tenants = Vec::new();
    for slug in ["acme", "globex", "initech"] {
        let tenant = installation.tenant(slug).await;
        let (credential, id) = key(&tenant).await;
        tenants.push((tenant, credential, id));
    }
    let there = installation.process().await;
    // Changed before anybody has looked for changes.
    let revoke = async |at: usize| {
        let (tenant, _, id) = &tenants[at];
        assert!(tenant.revoke_key(id, 1).await.unwrap());
    };
    let let_in = async |at: usize| {
        let (tenant, credential, _) = &tenants[at];
        there.lets_in(tenant.id(), credential).await
    };
    assert!(let_in(0).await && let_in(1).await && let_in(2).await);
    revoke(0).await;
    there.tenants.look().await.unwrap();
    assert!(
        !let_in(0).await,
        "the first look sees what changed before it"
    );

    // Two tenants that cannot be bound where a component's file is missing; one of them has a place before or after a third that can.
    let binding = installation.binding("auth/1", "auth", "auth_jwt").await;
    there.tenants.look().await.unwrap();
    let file = installation.file(binding.component);
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let live = |at: usize| there.tenants.by_id(tenants[at].0.id()).unwrap();
    let before = [live(0), live(2)];
    let bound_anew = || !Arc::ptr_eq(&before[0], &live(0)) && !Arc::ptr_eq(&before[1], &live(2));
    for at in [0, 2] {
        tenants[at].0.bind_slot(&binding).await.unwrap();
    }
    revoke(1).await;
    revoke(2).await;
    there.tenants.look().await.unwrap();
    assert!(!let_in(1).await, "others' failures hold nobody up");
    assert!(!let_in(2).await, "nor does one's own");
    assert!(!bound_anew());

    // Nothing changes any more, and what could not be taken in is.
    fs::write(&file, bytes).unwrap();
    until("it is tried again", async || {
        there.tenants.look().await.unwrap();
        bound_anew()
    })
    .await;
    assert!(!let_in(2).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_does_not_describe_itself_holds_up_nobody() {
    let installation = Installation::new().await;
    let acme = installation.tenant("acme").await;
    let globex = installation.tenant("globex").await;
    let host = installation.process().await;
    for (kind, component) in [("agent", "benign"), ("tool", "slow_to_describe")] {
        let slot = format!("{kind}/test:{}", component.replace('_', "-"));
        let binding = installation.binding(&slot, kind, component).await;
        let operator = installation.store.operator();
        operator.bind_default_slot(&binding).await.unwrap();
    }
    let definition = json!({
        "name": "slow", "component": "test:benign", "model": "openai/any", "tools": ["test:slow-to-describe"],
    });
    acme.apply_agent(&"slow".parse().unwrap(), &definition)
        .await
        .unwrap();

    let runtime = &host.platform.runtime;
    let reload = async {
        host.tenants.reload(acme.id()).await.unwrap();
    };
    let meanwhile = async {
        until("it is asked", async || runtime.describing().calls() == 1).await;
        host.tenants.reload(globex.id()).await.unwrap();
        assert_eq!(runtime.describing().calls(), 1, "it is being asked yet");
        assert_eq!(runtime.host_tenant().calls(), 0);
    };
    futures::join!(reload, meanwhile);
    let problems = |host: &support::Host| {
        let tenant = host.tenants.by_id(acme.id()).unwrap();
        tenant
            .problems
            .iter()
            .map(|problem| problem.what.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(problems(&host), ["agent slow"]);

    // Once is enough: it costs no other tenant that moment again.
    for n in 0..8 {
        let other = installation.tenant(&format!("other-{n}")).await;
        other
            .apply_agent(&"slow".parse().unwrap(), &definition)
            .await
            .unwrap();
    }
    let began = Instant::now();
    host.tenants.reload_all().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(host.tenants.all().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_one_name_are_a_problem_that_is_told() {
    let installation = Installation::new().await;
    let acme = installation.tenant("acme").await;
    for slot in [
        "agent/test:benign",
        "tool/test:panicker",
        "tool/test:sleeper",
    ] {
        let (kind, name) = slot.split_once("/test:").unwrap();
        let binding = installation.binding(slot, kind, name).await;
        acme.bind_slot(&binding).await.unwrap();
    }
    let definition = json!({
        "name": "both", "component": "test:benign", "model": "openai/any", "tools": ["test:sleeper", "test:panicker"],
    });
    acme.apply_agent(&"both".parse().unwrap(), &definition)
        .await
        .unwrap();
    let host = installation.process().await;
    let tenant = host.tenants.by_id(acme.id()).unwrap();
    let [problem] = tenant.problems.as_slice() else {
        panic!("{:?}", tenant.problems)
    };
    assert_eq!(problem.what, "agent both");
    assert_eq!(
        problem.why,
        "tool `misbehave` of test:panicker is hidden by that of test:sleeper"
    );
    assert_eq!(
        tenant.agents.len(),
        1,
        "and the agent serves with the other"
    );
}
