//! What two keys hold, what can be done to them, and what each step must answer: the sequential
//! specification that a history is held against.
//!
//! Linearizability is local: a history is linearizable if what it did to each object is. The
//! object here is a *pair* of keys, since MGET, MSET and EXEC bind two keys together.

use std::fmt;
use std::sync::Arc;

/// A value's bytes; the load writes text only.
pub type Value = Arc<str>;

/// What the two keys of a pair hold; none for a key that is absent.
pub type State = [Option<Value>; 2];

/// One of the two keys of a pair.
pub type Slot = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Get,
    Set(Value),
    SetNx(Value),
    Incr,
    Del,
}

/// What a client was told about one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `OK`; to a DEL on a line too, which does not tell whether the key was there.
    Done,
    /// Nil: GET found no key, or SET NX found one.
    Nil,
    Value(Value),
    Integer(i64),
    NotAnInteger,
}

/// How the steps of an operation are put into commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One step, one command.
    Single,
    MGet,
    MSet,
    /// MULTI, a command for each step, EXEC.
    Exec,
}

/// Steps that take effect all at once, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub form: Form,
    pub steps: Vec<(Slot, Step)>,
}

impl Operation {
    pub fn only_reads(&self) -> bool {
        self.steps.iter().all(|(_, step)| *step == Step::Get)
    }

    /// Whether `state` allows these outcomes, one for each step; and the state it then leaves.
    /// Without outcomes, whatever the operation would have answered is allowed.
    pub fn apply(&self, state: &State, outcomes: Option<&[Outcome]>) -> (bool, State) {
        let mut after = state.clone();
        let mut allowed = outcomes.is_none_or(|outcomes| outcomes.len() == self.steps.len());
        for (index, (slot, step)) in self.steps.iter().enumerate() {
            let expected = step.perform(&mut after[*slot]);
            let told = outcomes.and_then(|outcomes| outcomes.get(index));
            let silent_del = *step == Step::Del && told == Some(&Outcome::Done);
            allowed &= silent_del || told.is_none_or(|told| *told == expected);
        }
        (allowed, after)
    }
}

impl Step {
    /// Takes the step on the key that holds `value`.
    pub fn perform(&self, value: &mut Option<Value>) -> Outcome {
        match self {
            Step::Get => value.clone().map_or(Outcome::Nil, Outcome::Value),
            Step::Set(new) => {
                *value = Some(Arc::clone(new));
                Outcome::Done
            }
            Step::SetNx(_) if value.is_some() => Outcome::Nil,
            Step::SetNx(new) => {
                *value = Some(Arc::clone(new));
                Outcome::Done
            }
            Step::Incr => {
                let number = value.as_ref().map_or(Ok(0), |text| text.parse::<i64>());
                let Some(next) = number.ok().and_then(|number| number.checked_add(1)) else {
                    return Outcome::NotAnInteger;
                };
                *value = Some(next.to_string().into());
                Outcome::Integer(next)
            }
            Step::Del => Outcome::Integer(i64::from(value.take().is_some())),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("OK"),
            Outcome::Nil => f.write_str("nil"),
            Outcome::Value(value) => write!(f, "{value:?}"),
            Outcome::Integer(number) => write!(f, "{number}"),
            Outcome::NotAnInteger => f.write_str("not an integer"),
        }
    }
}

#[test]
fn an_operation_allows_what_its_steps_answer_one_after_another_and_nothing_else() {
    let text = |text: &str| Some(Value::from(text));
    let exec = Operation {
        form: Form::Exec,
        steps: vec![
            (0, Step::Incr),
            (1, Step::SetNx("x".into())),
            (0, Step::Get),
        ],
    };
    let told = |last: &str| {
        [
            Outcome::Integer(8),
            Outcome::Nil,
            Outcome::Value(last.into()),
        ]
    };
    let before = [text("7"), text("t")];
    assert_eq!(
        exec.apply(&before, Some(&told("8"))),
        (true, [text("8"), text("t")])
    );
    assert!(!exec.apply(&before, Some(&told("7"))).0);
    assert!(
        !exec.apply(&before, Some(&[Outcome::Integer(8)])).0,
        "cut short"
    );
    assert!(exec.apply(&before, None).0);

    let one = |step| Operation {
        form: Form::Single,
        steps: vec![(1, step)],
    };
    let not_a_number = one(Step::Incr).apply(&before, Some(&[Outcome::NotAnInteger]));
    assert_eq!(not_a_number, (true, before.clone()));
    let highest = [None, text("9223372036854775807")];
    assert!(
        one(Step::Incr)
            .apply(&highest, Some(&[Outcome::NotAnInteger]))
            .0
    );
    for told in [Outcome::Done, Outcome::Integer(1)] {
        assert_eq!(
            one(Step::Del).apply(&before, Some(&[told])),
            (true, [text("7"), None])
        );
    }
    assert!(
        !one(Step::Del)
            .apply(&before, Some(&[Outcome::Integer(0)]))
            .0
    );
    assert!(
        !one(Step::Set("y".into()))
            .apply(&before, Some(&[Outcome::Nil]))
            .0
    );
}
