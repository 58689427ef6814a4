//! Every interleaving of a few callers with crashes, lost answers, recovery and a clock that moves both ways.
//!
//! A state is what is durable (accounts and reservations) and where each caller stands. From each, every possible next step is taken,
//! through [`Books`] loaded from that state alone, as a transaction does it. What must hold is recomputed from the reservations.

use ambit_ledger::{
    Account, Books, Budget, BudgetScope, Charge, LedgerOp, Money, Period, Refusal, Reservation,
    ReservationState, Reserve, ScopeKind, Spender, Usage,
};
use ambit_types::{ReservationId, SessionId, TenantId};
use std::collections::{HashSet, VecDeque};

const DAY: i64 = 24 * 3600 * 1000;
const CALLERS: usize = 3;
/// Of the tenant for a day, of the agent for ever.
const LIMITS: [i64; 2] = [10, 12];
const AMOUNTS: [i64; CALLERS] = [4, 5, 7];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Row {
    Absent,
    Reserved { window: i64 },
    Settled { window: i64, cost: i64 },
    Released { window: i64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Caller {
    Idle,
    /// Reserved, and told so.
    Calling,
    /// It asked to settle or release and does not know whether that was done.
    SettleUnknown {
        cost: i64,
    },
    ReleaseUnknown,
    Crashed,
    Ended,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    day: i64,
    /// Window, reserved, settled.
    accounts: [(i64, i64, i64); 2],
    rows: [Row; CALLERS],
    callers: [Caller; CALLERS],
}

struct World {
    tenant: TenantId,
    session: SessionId,
    ids: [ReservationId; CALLERS],
    /// Whether somebody who was taken for dead may still settle.
    zombies: bool,
}

fn money(nanos: i64) -> Money {
    Money::from_nanos(nanos).unwrap()
}

fn scopes() -> [(BudgetScope, Period); 2] {
    let agent = BudgetScope::new(ScopeKind::Agent, "a").unwrap();
    [(BudgetScope::tenant(), Period::Day), (agent, Period::None)]
}

fn spender() -> Spender {
    let [agent, key, provider, model] = ["a", "", "p", "m"].map(Into::into);
    Spender {
        agent,
        key,
        provider,
        model,
    }
}

impl World {
    fn books(&self, state: &State) -> Books {
        let mut books = Books::default();
        for (n, (scope, period)) in scopes().into_iter().enumerate() {
            let (window_ms, reserved, settled) = state.accounts[n];
            let account = Account {
                window_ms,
                reserved: money(reserved),
                settled: money(settled),
            };
            books.add_account((self.tenant, scope.clone(), period), account);
            let limit = money(LIMITS[n]);
            books.add_budget(
                self.tenant,
                Budget {
                    scope,
                    period,
                    limit,
                },
            );
        }
        for (n, row) in state.rows.iter().enumerate() {
            let (state, window, cost) = match *row {
                Row::Absent => continue,
                Row::Reserved { window } => (ReservationState::Reserved, window, 0),
                Row::Settled { window, cost } => (ReservationState::Settled, window, cost),
                Row::Released { window } => (ReservationState::Released, window, 0),
            };
            let charges = scopes().map(|(scope, period)| Charge {
                window_ms: if period == Period::Day { window } else { 0 },
                scope,
                period,
            });
            let row = Reservation {
                session: self.session,
                amount: money(AMOUNTS[n]),
                at_ms: window,
                spender: spender(),
                charges: charges.into(),
                state,
                cost: money(cost),
                usage: Usage::default(),
            };
            books.add_reservation(self.tenant, self.ids[n], row);
        }
        books
    }

    /// What is durable after an append with this operation, and how it was answered.
    fn apply(&self, state: &State, op: LedgerOp) -> (State, Result<(), Refusal>) {
        let mut books = self.books(state);
        let answer = books.apply(self.tenant, self.session, &[op]);
        let mut next = state.clone();
        for ((_, scope, period), account) in books.changed_accounts() {
            let n = scopes()
                .iter()
                .position(|at| *at == (scope.clone(), *period));
            next.accounts[n.unwrap()] = (
                account.window_ms,
                account.reserved.nanos(),
                account.settled.nanos(),
            );
        }
        for (_, id, row, _) in books.changed_reservations() {
            let n = self.ids.iter().position(|known| *known == id).unwrap();
            let window = row.charges.iter().find(|c| c.period == Period::Day);
            let window = window.unwrap().window_ms;
            next.rows[n] = match row.state {
                ReservationState::Reserved => Row::Reserved { window },
                ReservationState::Settled => Row::Settled {
                    window,
                    cost: row.cost.nanos(),
                },
                ReservationState::Released => Row::Released { window },
            };
        }
        assert!(
            answer.is_ok() || next == *state,
            "a refused append changed {state:?}"
        );
        (next, answer)
    }

    fn steps(&self, state: &State) -> Vec<State> {
        let mut all = Vec::new();
        for (n, amount) in AMOUNTS.into_iter().enumerate() {
            let id = self.ids[n];
            let mut go = |state: &State, to| {
                let mut next = state.clone();
                next.callers[n] = to;
                all.push(next);
            };
            let settle = |cost| LedgerOp::Settle {
                id,
                cost: money(cost),
                usage: Usage::default(),
            };
            match state.callers[n] {
                Caller::Idle => {
                    let reserve = Reserve {
                        id,
                        amount: money(amount),
                        at_ms: state.day * DAY,
                        spender: spender(),
                        tokens: Default::default(),
                        above: std::sync::Arc::default(),
                    };
                    let (next, answer) = self.apply(state, LedgerOp::Reserve(reserve));
                    assert_eq!(answer.is_ok(), enough(state, n), "caller {n} in {state:?}");
                    match answer {
                        Ok(()) => {
                            go(&next, Caller::Calling);
                            go(&next, Caller::Crashed);
                        }
                        Err(Refusal::OverBudget(over)) => {
                            assert!(over.left < money(amount) && over.needed == money(amount));
                            go(state, Caller::Ended);
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
                Caller::Calling => {
                    for cost in [1, amount] {
                        let (next, answer) = self.apply(state, settle(cost));
                        answer.unwrap();
                        go(&next, Caller::Ended);
                        go(&next, Caller::Crashed);
                        // The answer was lost, or the append was.
                        go(&next, Caller::SettleUnknown { cost });
                        go(state, Caller::SettleUnknown { cost });
                    }
                    let (next, answer) = self.apply(state, LedgerOp::Release { id });
                    answer.unwrap();
                    go(&next, Caller::Ended);
                    go(&next, Caller::ReleaseUnknown);
                    go(state, Caller::ReleaseUnknown);
                    go(state, Caller::Crashed);
                }
                Caller::SettleUnknown { cost } => {
                    let (next, answer) = self.apply(state, settle(cost));
                    match state.rows[n] {
                        Row::Settled { .. } => assert_eq!(answer, Err(Refusal::Conflict)),
                        _ => answer.unwrap(),
                    }
                    go(&next, Caller::Ended);
                }
                Caller::ReleaseUnknown => {
                    let (next, answer) = self.apply(state, LedgerOp::Release { id });
                    answer.unwrap();
                    go(&next, Caller::Ended);
                }
                Caller::Crashed => {
                    // Recovery, which may come again after its own crash.
                    let (next, answer) = self.apply(state, LedgerOp::Release { id });
                    answer.unwrap();
                    go(&next, Caller::Crashed);
                    go(&next, Caller::Ended);
                    if self.zombies {
                        go(&next, Caller::SettleUnknown { cost: amount });
                    }
                }
                Caller::Ended => {}
            }
        }
        for day in [state.day - 1, state.day + 1] {
            if (5..=6).contains(&day) {
                all.push(State {
                    day,
                    ..state.clone()
                });
            }
        }
        all
    }

    fn check(&self, state: &State) {
        for (n, (account, limit)) in state.accounts.into_iter().zip(LIMITS).enumerate() {
            let (_, reserved, settled) = account;
            assert_eq!(
                (reserved, settled),
                sums(state, n),
                "account {n} of {state:?}"
            );
            assert!(
                self.zombies || reserved + settled <= limit,
                "overspent: {state:?}"
            );
        }
        if state.callers.iter().all(|caller| *caller == Caller::Ended) {
            assert_eq!(
                state.accounts.map(|(_, reserved, _)| reserved),
                [0, 0],
                "{state:?}"
            );
        }
    }
}

/// What is reserved and settled in the window that account `n` is in, from the reservations alone.
fn sums(state: &State, n: usize) -> (i64, i64) {
    let now = state.accounts[n].0;
    let counts = |window: i64| n == 1 || window == now;
    let mut sums = (0, 0);
    for (row, amount) in state.rows.iter().zip(AMOUNTS) {
        match *row {
            Row::Reserved { window } if counts(window) => sums.0 += amount,
            Row::Settled { window, cost } if counts(window) => sums.1 += cost,
            _ => {}
        }
    }
    sums
}

/// Whether both budgets have room for caller `n`: the windows begin anew with a later day and never with an earlier.
fn enough(state: &State, n: usize) -> bool {
    let mut later = state.clone();
    later.accounts[0].0 = later.accounts[0].0.max(state.day * DAY);
    (0..2).all(|account| {
        let (reserved, settled) = sums(&later, account);
        reserved + settled + AMOUNTS[n] <= LIMITS[account]
    })
}

/// How many states there are.
fn explore(zombies: bool) -> usize {
    let world = World {
        tenant: TenantId::new(),
        session: SessionId::new(),
        ids: [(); CALLERS].map(|()| ReservationId::new()),
        zombies,
    };
    let first = State {
        day: 5,
        accounts: [(-1, 0, 0); 2],
        rows: [Row::Absent; CALLERS],
        callers: [Caller::Idle; CALLERS],
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut open = VecDeque::from([first]);
    while let Some(state) = open.pop_front() {
        world.check(&state);
        for next in world.steps(&state) {
            if seen.insert(next.clone()) {
                open.push_back(next);
            }
        }
    }
    seen.len()
}

#[test]
fn no_interleaving_overspends_refuses_wrongly_or_leaks() {
    let states = explore(false);
    assert!(states > 10_000, "{states} states");
}

/// Who was taken for dead and settles late has spent: it counts, even beyond the limit.
#[test]
fn what_was_spent_counts_even_after_its_reservation_was_given_up() {
    let states = explore(true);
    assert!(states > 10_000, "{states} states");
}

/// Whatever comes first in it, and with a reservation of its own among it.
#[test]
fn a_refused_append_changes_nothing() {
    let ids = [(); CALLERS].map(|()| ReservationId::new());
    let world = World {
        tenant: TenantId::new(),
        session: SessionId::new(),
        ids,
        zombies: false,
    };
    let window = 5 * DAY;
    let state = State {
        day: 5,
        accounts: [(window, 9, 0), (0, 9, 0)],
        rows: [
            Row::Reserved { window },
            Row::Reserved { window },
            Row::Absent,
        ],
        callers: [Caller::Calling, Caller::Calling, Caller::Idle],
    };
    let settle = |n: usize| LedgerOp::Settle {
        id: ids[n],
        cost: money(1),
        usage: Usage::default(),
    };
    let reserve = |amount| {
        LedgerOp::Reserve(Reserve {
            id: ids[2],
            amount: money(amount),
            at_ms: window,
            spender: spender(),
            tokens: Default::default(),
            above: std::sync::Arc::default(),
        })
    };
    let release = LedgerOp::Release { id: ids[1] };
    for (ops, fits) in [
        (vec![settle(0), reserve(5)], false),
        (
            vec![release.clone(), reserve(1), settle(0), settle(0)],
            false,
        ),
        (vec![reserve(1), reserve(0)], false),
        (vec![settle(0), reserve(4), settle(2), release], true),
    ] {
        let mut books = world.books(&state);
        let done = books.apply(world.tenant, world.session, &ops);
        assert_eq!(done.is_ok(), fits, "{ops:?}");
        let changed = books.changed_accounts().count() + books.changed_reservations().count();
        assert_eq!(changed > 0, fits, "{ops:?}");
    }
}

/// A call that began before its budget was set: it is counted and never refused, and leaves less for the others.
#[test]
fn what_was_spent_without_a_reservation_counts() {
    let world = World {
        tenant: TenantId::new(),
        session: SessionId::new(),
        ids: [(); CALLERS].map(|()| ReservationId::new()),
        zombies: false,
    };
    let day = 5 * DAY;
    for (before, amount, fits) in [(0, 6, true), (0, 7, false), (9, 8, false)] {
        let state = State {
            day: 5,
            accounts: [(day - DAY, 0, 9), (0, before, 0)],
            rows: [Row::Absent; CALLERS],
            callers: [Caller::Idle; CALLERS],
        };
        let mut books = world.books(&state);
        let call = |n: usize, amount| Reserve {
            id: world.ids[n],
            amount: money(amount),
            at_ms: day,
            spender: spender(),
            tokens: Default::default(),
            above: std::sync::Arc::default(),
        };
        let spend = |n| LedgerOp::Spend {
            call: call(n, amount),
            usage: Usage::default(),
        };
        let mut apply = |ops: &[LedgerOp]| books.apply(world.tenant, world.session, ops);
        apply(&[spend(0)]).unwrap();
        assert_eq!(apply(&[spend(0)]), Err(Refusal::Conflict));
        let late = LedgerOp::Settle {
            id: world.ids[0],
            cost: money(1),
            usage: Usage::default(),
        };
        assert_eq!(apply(&[late]), Err(Refusal::Conflict));
        apply(&[LedgerOp::Release { id: world.ids[0] }]).unwrap();
        let next = apply(&[LedgerOp::Reserve(call(1, 4))]);
        assert_eq!(next.is_ok(), fits, "{before} {amount}: {next:?}");
        let settled: Vec<_> = books
            .changed_accounts()
            .map(|(_, account)| account.settled)
            .collect();
        assert_eq!(settled, [money(amount); 2]);
    }
}
