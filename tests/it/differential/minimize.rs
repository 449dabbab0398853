//! Makes a sequence that shows a difference as short as it goes.

use super::step::Step;

/// Leaves out what can be left out, in ever smaller pieces, while `fails` still does. A wait goes
/// with the step before it: without it, what follows would hang on how fast a server is.
pub fn minimize(steps: &[Step], mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut groups: Vec<Vec<Step>> = Vec::new();
    for step in steps {
        match groups.last_mut() {
            Some(group) if step.is_wait() => group.push(step.clone()),
            _ => groups.push(vec![step.clone()]),
        }
    }
    let mut size = groups.len().div_ceil(2);
    loop {
        let (mut at, mut shorter) = (0, false);
        while at < groups.len() {
            let mut rest = groups.clone();
            rest.drain(at..(at + size).min(groups.len()));
            if fails(&rest.concat()) {
                (groups, shorter) = (rest, true);
            } else {
                at += size;
            }
        }
        match size {
            0 | 1 if !shorter => return groups.concat(),
            0 | 1 => {}
            _ => size = size.div_ceil(2),
        }
    }
}

#[test]
fn only_what_is_needed_is_left() {
    let steps = |text: &str| -> Vec<Step> {
        let lines = text.lines();
        lines
            .filter_map(|line| super::step::parse(line).unwrap())
            .collect()
    };
    let long = steps("A\nB\nC\nSET k v PX 5\n!wait 9\nD\nE\n2> F\nG\nSET x y PX 1\n!wait 1\nH");
    let wanted = steps("B\nSET k v PX 5\n2> F");
    let mut tries = 0;
    let short = minimize(&long, |steps| {
        tries += 1;
        wanted.iter().all(|step| steps.contains(step))
    });
    assert_eq!(short, steps("B\nSET k v PX 5\n!wait 9\n2> F"));
    assert!(tries < 60, "{tries} tries");
    assert_eq!(minimize(&long, |_| true), []);
}
