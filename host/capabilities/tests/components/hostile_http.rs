//! Tools that abuse `wasi:http`: each hurts its own call only.

use crate::{
    server::{Manners, Server},
    support::{block_on, context, hostile, runtime},
};
use ambit_capabilities::{
    Failure, Narrowing,
    tool::{Outbound, Reach, ToolCall, ToolError, ToolOutput, Toolbox},
};
use ambit_egress::Egress;
use ambit_runtime::{CallError, Limit};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

async fn toolbox(name: &'static str, server: &Server, limits: &str, reach: &Reach) -> Toolbox {
    let http = format!(
        "[[permissions.http]]\norigin = \"http://{}\"\nmethods = [\"GET\"]\n",
        server.address
    );
    Toolbox::new(
        runtime(),
        &hostile(name, &format!("{http}[limits]\n{limits}\n")),
        reach.clone(),
    )
    .await
    .unwrap()
}

async fn misbehave(
    tools: &Toolbox,
    tenant: &str,
    server: &Server,
) -> Result<ToolOutput, ToolError> {
    told(tools, tenant, &server.address.to_string()).await
}

async fn told(tools: &Toolbox, tenant: &str, argument: &str) -> Result<ToolOutput, ToolError> {
    let arguments = serde_json::json!({ "argument": argument }).to_string();
    let call = ToolCall {
        id: "1".to_owned(),
        name: "misbehave".to_owned(),
        arguments,
    };
    tools
        .invoke(&context(tenant), &Narrowing::default(), call)
        .await
}

fn spent(result: &Result<ToolOutput, ToolError>, limit: Limit) -> bool {
    matches!(result, Err(ToolError::Failure(Failure::Call(CallError::Limit(spent)))) if *spent == limit)
}

#[test]
fn a_hoard_of_connections_is_one_calls_few() {
    block_on(async {
        let server = Server::start(Manners::HeadOnly).await;
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 16));
        let tools = toolbox(
            "connection_hoard",
            &server,
            "connections = 3\ndeadline = \"2s\"\ncpu = \"1s\"",
            &reach,
        )
        .await;
        let output = misbehave(&tools, "hoarder", &server).await.unwrap();
        assert!(
            output.content.starts_with("3 and then"),
            "{}",
            output.content
        );
        assert_eq!(server.most_open(), 3);
        server.all_closed().await;
    });
}

/// Bodies and headers that go nowhere are memory of the host's that no limiter of guest memory sees.
#[test]
fn what_stands_behind_handles_is_a_few_kib_each_and_they_are_few() {
    block_on(async {
        let server = Server::start(Manners::HeadOnly).await;
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 16));
        let tools = toolbox("fat_handles", &server, "cpu = \"2s\"", &reach).await;
        let taken = told(&tools, "filler", "50").await.unwrap().content;
        let taken: usize = taken.parse().unwrap();
        assert!((1..=(50 * 32) << 10).contains(&taken), "{taken} bytes");
        // Each body takes three handles, so that there are not many more.
        for endless in ["bodies", "headers"] {
            let result = told(&tools, "filler", endless).await;
            assert!(spent(&result, Limit::Handles), "{endless}: {result:?}");
        }
    });
}

/// A tool stuck in the host is cut at its deadline and lets go of its connection, whatever the server does.
#[track_caller]
fn check_cut(manners: Manners) {
    block_on(async {
        let server = Server::start(manners).await;
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 16));
        let tools = toolbox("slow_drip", &server, "deadline = \"1s\"", &reach).await;
        let began = Instant::now();
        let result = misbehave(&tools, "waiter", &server).await;
        let took = began.elapsed();
        assert!(spent(&result, Limit::Deadline), "{result:?}");
        assert!(took < Duration::from_millis(1500), "{took:?}");
        server.all_closed().await;
    });
}

#[test]
fn a_slow_drip_ends_at_the_deadline() {
    check_cut(Manners::Drip);
}

#[test]
fn a_body_that_never_comes_ends_at_the_deadline() {
    check_cut(Manners::HeadOnly);
}

#[test]
fn an_answer_that_never_comes_ends_at_the_deadline() {
    check_cut(Manners::Silent);
}

#[test]
fn a_flood_spends_the_calls_egress_and_no_more_is_read() {
    block_on(async {
        let server = Server::start(Manners::Flood(64 << 20)).await;
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 16));
        let tools = toolbox(
            "slow_drip",
            &server,
            "egress = \"64KiB\"\ndeadline = \"5s\"\ncpu = \"1s\"",
            &reach,
        )
        .await;
        // This guest takes the broken stream for its end and answers; the spent limit is an error all the same.
        let outcome = misbehave(&tools, "drinker", &server).await;
        assert!(
            matches!(&outcome, Err(error) if error.code() == "limit"),
            "{outcome:?}"
        );
        server.all_closed().await;
    });
}

#[test]
fn one_tenants_connections_are_not_anothers() {
    block_on(async {
        let server = Server::start(Manners::HeadOnly).await;
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 2));
        let tools = toolbox("slow_drip", &server, "deadline = \"2s\"", &reach).await;
        // Two calls of one tenant hold its two places; more of it are refused, the other tenant's is not.
        let tenant = context("busy");
        let arguments = serde_json::json!({ "argument": server.address.to_string() }).to_string();
        let call = || ToolCall {
            id: "1".to_owned(),
            name: "misbehave".to_owned(),
            arguments: arguments.clone(),
        };
        let narrowing = Narrowing::default();
        let waiting = async {
            futures::join!(
                tools.invoke(&tenant, &narrowing, call()),
                tools.invoke(&tenant, &narrowing, call())
            )
        };
        let meanwhile = async {
            while server.most_open() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let refused = tools.invoke(&tenant, &narrowing, call()).await.unwrap();
            assert_eq!(refused.content, "no response");
            let other = misbehave(&tools, "calm", &server).await;
            assert!(
                spent(&other, Limit::Deadline),
                "it got its connection and waited: {other:?}"
            );
            assert_eq!(server.most_open(), 3);
        };
        let ((first, second), ()) = futures::join!(waiting, meanwhile);
        assert!(spent(&first, Limit::Deadline) && spent(&second, Limit::Deadline));
    });
}

/// One tenant runs such a guest flat out, far more calls than it may, while another's tool answers: its calls end as they should, in time;
/// it holds no more than its places and connections; none of the other's calls is refused or lost; and afterwards nothing is held.
fn besiege(name: &'static str, manners: Manners, ends: fn(&Result<ToolOutput, ToolError>) -> bool) {
    const DEADLINE: Duration = Duration::from_millis(400);
    block_on(async {
        let server = Server::start(manners).await;
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 6));
        let limits = "deadline = \"400ms\"\ncpu = \"300ms\"\nconnections = 3\nconcurrency = 4";
        let tools = toolbox(name, &server, limits, &reach).await;
        let benign = hostile("benign", "");
        let kind = Toolbox::new(runtime(), &benign, reach.clone());
        let kind = kind.await.unwrap();
        let besieger = context(&name.replace('_', "-"));
        let stop = Arc::new(AtomicBool::new(false));
        let attack = async |stop: Arc<AtomicBool>| {
            let mut took = Vec::new();
            let argument = serde_json::json!({ "argument": server.address.to_string() });
            while !stop.load(Ordering::Relaxed) {
                let call = ToolCall {
                    id: "1".to_owned(),
                    name: "misbehave".to_owned(),
                    arguments: argument.to_string(),
                };
                let began = Instant::now();
                let end = tools.invoke(&besieger, &Narrowing::default(), call).await;
                let busy = matches!(
                    &end,
                    Err(ToolError::Failure(Failure::Call(CallError::Busy(_))))
                );
                assert!(
                    busy || spent(&end, Limit::Deadline) || ends(&end),
                    "{end:?}"
                );
                if busy {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                } else {
                    took.push(began.elapsed());
                }
            }
            took
        };
        let attackers = futures::future::join_all((0..64).map(|_| attack(stop.clone())));
        let neighbour = async {
            let share = runtime().tenant(besieger.tenant, &besieger.tenant_slug);
            let until = Instant::now() + Duration::from_secs(3);
            let mut answered = 0;
            while answered < 40 || Instant::now() < until {
                let said = told(&kind, "calm", "you").await.unwrap();
                assert_eq!(said.content, "hello you");
                assert!(share.calls() <= 4, "{} calls", share.calls());
                let open = open_connections(&server);
                assert!(open <= 6, "{open} connections");
                answered += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stop.store(true, Ordering::Relaxed);
            share
        };
        let (took, share) = futures::join!(attackers, neighbour);
        let mut took = took.concat();
        took.sort_unstable();
        assert!(took.len() >= 20, "{} calls", took.len());
        let most = took[took.len() * 9 / 10];
        assert!(most * 2 <= DEADLINE * 3, "{most:?} of {DEADLINE:?}");
        assert_eq!((share.calls(), share.memory()), (0, 0));
        server.all_closed().await;
    });
}

/// This side's open connections to the server, as the kernel has them: the server itself learns late of one that is gone. While the table
/// is read connections come and go, so the least of three readings counts.
fn open_connections(server: &Server) -> usize {
    let readings = (0..3).filter_map(|_| established(server));
    readings.min().unwrap_or(0)
}

fn established(server: &Server) -> Option<usize> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
    let remote = format!(":{:04X}", server.address.port());
    let open = table.lines().filter(|line| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|to| to.ends_with(&remote))
            && columns.next() == Some(ESTABLISHED)
    });
    Some(open.count())
}

#[test]
fn a_siege_of_slow_drips_holds_its_own_places_only() {
    besiege("slow_drip", Manners::Drip, |end| {
        // Without a connection of its own the guest has nothing to wait for.
        end.as_ref().is_ok_and(|said| said.content == "no response")
    });
}

#[test]
fn a_siege_of_hoarders_holds_its_own_places_only() {
    besiege("connection_hoard", Manners::HeadOnly, |end| {
        end.as_ref()
            .is_ok_and(|said| said.content.contains("and then"))
    });
}
