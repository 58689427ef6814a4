//! What guests of the standard toolchain find around them.

use crate::support::{admitted, agent, guest, manifest, runtime, scope, short, tenant, tool};
use ambit_runtime::{CallScope, Clock, Effectful, Pure, Runtime};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(crate) type Tool = Effectful<(), tool::Guest>;
pub(crate) type Agent = Pure<(), agent::Guest>;

pub(crate) fn link_tool(runtime: &Arc<Runtime>, name: &str, rest: &str) -> Arc<Tool> {
    let admitted = admitted(runtime, &guest(name), manifest("tool", rest));
    Arc::new(Tool::link(runtime, &admitted, |_| Ok(())).unwrap())
}

pub(crate) fn link_agent(runtime: &Arc<Runtime>, name: &str, rest: &str) -> Arc<Agent> {
    let admitted = admitted(runtime, &guest(name), manifest("agent", rest));
    Arc::new(Agent::link(runtime, &admitted, |_| Ok(())).unwrap())
}

pub(crate) async fn invoke(
    tool: &Tool,
    scope: &CallScope,
    arguments: &str,
) -> Result<String, String> {
    use tool::exports::ambit::tool::tool::ToolCall;
    let call = ToolCall {
        id: "1".into(),
        name: "misbehave".into(),
        arguments: arguments.into(),
    };
    let result = tool
        .call(scope, (), async |store, guest| {
            guest.ambit_tool_tool().call_invoke(store, &call).await
        })
        .await;
    result.map_err(short).map(|output| output.unwrap().content)
}

pub(crate) fn step(agent: &Agent, scope: &CallScope, instructions: &str) -> Result<String, String> {
    use agent::exports::ambit::agent::agent::{Answer, Definition, Move, Turn};
    let definition = Definition {
        name: "test".into(),
        instructions: instructions.into(),
        tools: Vec::new(),
        client_tools: Vec::new(),
        collections: Vec::new(),
        max_passages: 0,
        steps_left: 1,
    };
    let turn = Turn {
        definition,
        step: 0,
        events: Vec::new(),
        state: Vec::new(),
    };
    let result = agent.call(scope, (), |store, guest| {
        guest.ambit_agent_agent().call_step(store, &turn)
    });
    match result.map_err(short)?.unwrap().move_ {
        Move::Finish(finish) => match finish.answer {
            Answer::Text(text) => Ok(text),
            Answer::Message(_) => Err("a message".into()),
        },
        _ => Err("another move".into()),
    }
}

#[tokio::test]
async fn a_guest_of_the_standard_toolchain_runs_on_both_engines() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "standard");
    let (tool, agent) = (
        link_tool(&runtime, "benign", ""),
        link_agent(&runtime, "benign", ""),
    );
    for _ in 0..3 {
        assert_eq!(
            invoke(&tool, &scope(&tenant), "world").await.unwrap(),
            "hello world"
        );
        assert_eq!(
            step(&agent, &scope(&tenant), "world").unwrap(),
            "hello world"
        );
    }
    assert_eq!(tenant.memory(), 0);
}

#[tokio::test]
async fn it_finds_nothing_of_the_hosts() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "surroundings");
    let (tool, agent) = (
        link_tool(&runtime, "surroundings", ""),
        link_agent(&runtime, "surroundings", ""),
    );
    for found in [
        invoke(&tool, &scope(&tenant), "environment").await,
        step(&agent, &scope(&tenant), "environment"),
    ] {
        assert_eq!(found.unwrap(), "arguments 0, variables 0, stdin 0");
    }
    for exited in [
        invoke(&tool, &scope(&tenant), "exit").await,
        step(&agent, &scope(&tenant), "exit"),
    ] {
        assert_eq!(exited, Err("trap exit(1)".into()));
    }
}

#[tokio::test]
async fn an_agents_turn_stops_the_clock_and_seeds_chance() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "turns");
    let agent = link_agent(&runtime, "surroundings", "");
    let at = |seconds, seed| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut scope = scope(&tenant);
        scope.clock = Clock::Turn {
            time,
            seed: [seed; 32],
        };
        step(&agent, &scope, "time and chance").unwrap()
    };
    let turn = at(1_750_000_000, 1);
    assert!(
        turn.starts_with("1750000000.000000000, 0 ns later, "),
        "{turn}"
    );
    assert_eq!(turn, at(1_750_000_000, 1), "the same turn is the same");
    assert_ne!(turn, at(1_750_000_001, 1));
    assert_ne!(turn, at(1_750_000_000, 2));
    let real = |_| step(&agent, &scope(&tenant), "time and chance").unwrap();
    let [one, two] = [0, 1].map(real);
    assert_ne!(one, two, "elsewhere time passes and chance is chance");
}

#[tokio::test]
async fn waiting_is_for_effectful_components() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "waiting");
    let (tool, agent) = (
        link_tool(&runtime, "surroundings", ""),
        link_agent(&runtime, "surroundings", ""),
    );
    assert_eq!(
        invoke(&tool, &scope(&tenant), "nap").await.unwrap(),
        "rested"
    );
    let error = step(&agent, &scope(&tenant), "nap").unwrap_err();
    assert!(error.contains("a pure component waited"), "{error}");
}

#[tokio::test]
async fn host_time_is_not_guest_time() {
    let runtime = runtime();
    let tenant = tenant(&runtime, "sleepers-cpu");
    let tool = link_tool(&runtime, "surroundings", "[limits]\ncpu = \"40ms\"\n");
    // Naps 100 times 2 ms: some 200 ticks pass, almost all of them in the host.
    assert_eq!(
        invoke(&tool, &scope(&tenant), "naps").await.unwrap(),
        "rested"
    );
    assert!(tenant.cpu_ms() < 40, "{} ms", tenant.cpu_ms());
}
