use crate::support::{admitted, block_on, context, runtime};
use ambit_capabilities::agent::{Agent, Definition, Event, Message, Move, Role, Turn, TurnClock};

fn turn() -> Turn {
    Turn {
        definition: Definition {
            name: "assistant".to_owned(),
            instructions: "Answer from the handbook.".to_owned(),
            tools: Vec::new(),
            client_tools: Vec::new(),
            collections: vec!["handbook".to_owned()],
            max_passages: 5,
            steps_left: 8,
        },
        step: 0,
        events: vec![Event::Message(Message {
            id: 1,
            role: Role::User,
            size: 20,
            text: Some("What is an ambit?".to_owned()),
        })],
        state: Vec::new(),
    }
}

#[test]
fn the_same_turn_gives_the_same_decision_and_it_names_only_what_is_bound() {
    block_on(async {
        let agent = Agent::new(runtime(), &admitted("agent-assistant")).unwrap();
        let ctx = context("acme");
        let clock = TurnClock {
            unix_nanos: 1_800_000_000_000_000_000,
            seed: [7; 32],
        };
        let decision = agent.step(&ctx, turn(), clock).await.unwrap();
        let Move::Retrieve(requests) = &decision.move_ else {
            panic!("{decision:?}")
        };
        assert_eq!(requests[0].collection, "handbook");
        for other in [
            clock,
            TurnClock {
                unix_nanos: 0,
                seed: [9; 32],
            },
        ] {
            assert_eq!(agent.step(&ctx, turn(), other).await.unwrap(), decision);
        }
        let nonsense = Turn {
            state: b"not a state".to_vec(),
            step: 3,
            ..turn()
        };
        assert!(agent.step(&ctx, nonsense, clock).await.is_err());
    });
}
