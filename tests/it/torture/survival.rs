//! Which of the things that a power cut may leave are tried.

use std::collections::HashSet;

use crate::disk::{Part, Pending, Survival};
use crate::linearizable::random::Random;

/// Up to so many changes of names all their subsets are tried.
const ALL_SUBSETS: usize = 5;

/// At most `limit` ways in which what is pending may survive. Where there are more, chance picks
/// some, besides those that are always among them: all is lost, all is kept, only names are, only
/// what the files hold is.
pub fn survivals(pending: &Pending, random: &mut Random, limit: usize) -> Vec<Survival> {
    let all_names = (1_u64 << pending.names.min(63)) - 1;
    let every = |part: Part| vec![part; pending.changes.len()];
    let mut always = Vec::new();
    for names in [0, all_names] {
        for part in [Part::Lost, Part::Kept] {
            let parts = every(part);
            always.push(Survival { names, parts });
        }
    }
    let mut more = Vec::new();
    let subsets: Vec<u64> = if pending.names <= ALL_SUBSETS {
        (0..=all_names).collect()
    } else {
        (0..32).map(|_| random.next() & all_names).collect()
    };
    for &names in &subsets {
        for part in [Part::Lost, Part::Kept] {
            let parts = every(part);
            more.push(Survival { names, parts });
        }
        let parts = pending
            .changes
            .iter()
            .map(|change| any_part(*change, random));
        let parts = parts.collect();
        more.push(Survival { names, parts });
    }
    // Each write torn in each way, with all others lost and with all others kept.
    for (n, change) in pending.changes.iter().enumerate() {
        for part in torn(*change, random) {
            for others in [Part::Lost, Part::Kept] {
                let names = subsets[random.below(subsets.len() as u64) as usize];
                let mut parts = every(others);
                parts[n] = part.clone();
                more.push(Survival { names, parts });
            }
        }
    }
    if !pending.changes.is_empty() {
        for _ in 0..4 {
            let names = random.next() & all_names;
            let parts = pending
                .changes
                .iter()
                .map(|change| any_part(*change, random));
            let parts = parts.collect();
            more.push(Survival { names, parts });
        }
    }
    for n in (1..more.len()).rev() {
        more.swap(n, random.below(n as u64 + 1) as usize);
    }
    let mut tried = HashSet::new();
    let each = always.into_iter().chain(more);
    each.filter(|survival| tried.insert(survival.clone()))
        .take(limit)
        .collect()
}

/// The ways in which a write is torn: cut at each boundary of 512 bytes and of 4 KiB, its end
/// without its beginning, any blocks of it, its length without its bytes.
fn torn(change: Option<(usize, usize)>, random: &mut Random) -> Vec<Part> {
    let Some((offset, len)) = change else {
        return Vec::new();
    };
    let mut parts = vec![Part::Hole];
    for size in [512, 4096] {
        let blocks = (offset + len).div_ceil(size) - offset / size;
        for cut in 1..blocks.min(64) {
            let first = (1_u64 << cut) - 1;
            parts.push(Part::Blocks { size, kept: first });
            parts.push(Part::Blocks { size, kept: !first });
        }
        if blocks > 2 {
            let kept = random.next();
            parts.push(Part::Blocks { size, kept });
        }
    }
    parts
}

fn any_part(change: Option<(usize, usize)>, random: &mut Random) -> Part {
    let mut torn = torn(change, random);
    match random.below(4) {
        0 => Part::Lost,
        1 if !torn.is_empty() => torn.swap_remove(random.below(torn.len() as u64) as usize),
        _ => Part::Kept,
    }
}
