//! What a call costs and whether it may be spent: no clock, no database, no float.
//!
//! - [`Money`] is a whole number of nano-units of one currency; [`PriceTable`] knows what a provider's model costs on a day.
//! - A call is *reserved* at its upper bound before it is made ([`Price::upper_bound`]) and *settled* at what it cost
//!   ([`Price::of`]), or *released* when nothing was spent.
//! - [`Books`] holds the accounts and reservations that a transaction has loaded and applies operations to them, each append's all or
//!   none. The store writes back what changed: the rules stand here once, and are model-checked here.
//!
//! The rule that everything rests on: a reservation is refused exactly when, for one of the budgets it falls under, what is settled and
//! reserved in the current window and its own amount together exceed the limit. So no budget is overspent by calls that cost at most
//! what they reserved, and none is refused while there is enough.
//!
//! ```
//! # use ambit_ledger::{Day, Money, PriceTable, Usage};
//! let prices = PriceTable::shipped();
//! let price = prices.price("openai", "gpt-4o-mini", Day::from_ms(1_763_683_200_000))?;
//! let bound = price.upper_bound(1_000, 500);
//! let cost = price.of(&Usage { input_tokens: 900, cached_tokens: 400, output_tokens: 120, reasoning_tokens: 0 });
//! assert_eq!((bound.to_string(), cost.to_string()), ("0.00045".into(), "0.000177".into()));
//! assert!(cost <= bound);
//! # Ok::<_, ambit_ledger::Unpriced>(())
//! ```

mod account;
mod books;
mod money;
mod parse;
mod price;
mod table;
mod window;

pub use account::{Account, Budget, BudgetScope, Period, ScopeKind, UnknownWord};
pub use books::{
    AccountKey, Books, Charge, LedgerOp, OverBudget, Refusal, Reservation, ReservationState,
    Reserve, Spender,
};
pub use money::{Money, MoneyError};
pub use parse::{Mistake, PriceFileError};
pub use price::{Price, Usage};
pub use table::{PriceTable, Unpriced};
pub use window::{Day, DayError, LAST_MS, Window};
