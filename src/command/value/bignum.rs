//! Natural numbers of any size: as much of them as turning floats into text and back needs.
//!
//! They have no bound of their own. [`float`](super::float), their only user, keeps them below some
//! 40,000 bits.

use std::cmp::Ordering;
use std::iter::zip;

/// A natural number, the least significant word first, without zeros at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Natural(Vec<u64>);

impl Natural {
    /// The number whose digits in `radix` these are, the most significant one first.
    pub(super) fn from_digits(digits: impl Iterator<Item = u8>, radix: u64) -> Self {
        let mut number = Self(Vec::new());
        // Digits are gathered in a word, so that the whole number is gone through once a word.
        let (mut scale, mut gathered) = (1_u64, 0);
        for digit in digits {
            gathered = gathered * radix + u64::from(digit);
            scale *= radix;
            if scale > u64::MAX / radix {
                number.multiply_add(scale, gathered);
                (scale, gathered) = (1, 0);
            }
        }
        number.multiply_add(scale, gathered);
        number
    }

    /// Makes it `self` times `factor` plus `summand`.
    pub(super) fn multiply_add(&mut self, factor: u64, summand: u64) {
        let mut carry = summand;
        for word in &mut self.0 {
            let product = u128::from(*word) * u128::from(factor) + u128::from(carry);
            *word = product as u64;
            carry = (product >> 64) as u64;
        }
        if carry != 0 {
            self.0.push(carry);
        }
    }

    /// Makes it `self` times `5` to the power of `exponent`.
    pub(super) fn multiply_by_power_of_5(&mut self, exponent: u32) {
        /// The highest power of 5 that a word holds.
        const STEP: u32 = 27;
        for _ in 0..exponent / STEP {
            self.multiply_add(5_u64.pow(STEP), 0);
        }
        self.multiply_add(5_u64.pow(exponent % STEP), 0);
    }

    /// Makes it `self` divided by `divisor`, which is not 0, and returns the remainder.
    pub(super) fn divide(&mut self, divisor: u64) -> u64 {
        let divisor = u128::from(divisor);
        let mut remainder = 0;
        for word in self.0.iter_mut().rev() {
            let dividend = remainder << 64 | u128::from(*word);
            *word = (dividend / divisor) as u64;
            remainder = dividend % divisor;
        }
        self.trim();
        remainder as u64
    }

    pub(super) fn shift_left(&mut self, bits: u32) {
        if !bits.is_multiple_of(64) {
            self.multiply_add(1 << (bits % 64), 0);
        }
        if !self.is_zero() {
            let words = (bits / 64) as usize;
            self.0.splice(..0, std::iter::repeat_n(0, words));
        }
    }

    /// Makes it `self` minus `other`, which is not greater.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        for (word, other) in zip(&mut self.0, others) {
            let (difference, first) = word.overflowing_sub(other);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            borrow = first || second;
            *word = difference;
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bits it has from the highest 1 on.
    pub(super) fn bit_len(&self) -> u32 {
        let top = self.0.last().map_or(0, |word| 64 - word.leading_zeros());
        self.0.len().saturating_sub(1) as u32 * 64 + top
    }

    /// Its highest bits, at least 65 of them if it has so many.
    pub(super) fn leading(&self) -> Leading {
        let (low, high) = self.0.split_at(self.0.len().saturating_sub(2));
        Leading {
            bits: high
                .iter()
                .rev()
                .fold(0, |bits, word| bits << 64 | u128::from(*word)),
            exponent: low.len() as i32 * 64,
            inexact: low.iter().any(|word| *word != 0),
        }
    }

    /// The highest bits of `self` divided by `divisor`, at least 65. Neither is 0.
    pub(super) fn leading_of_quotient(mut self, mut divisor: Self) -> Leading {
        /// Bits of the quotient, or one more.
        const BITS: u32 = 66;
        if let Some(leading) = self.leading_of_small_quotient(&divisor) {
            return leading;
        }
        let (own, divisors) = (self.bit_len(), divisor.bit_len() + BITS);
        self.shift_left(divisors.saturating_sub(own));
        divisor.shift_left(own.saturating_sub(divisors) + BITS);
        let mut bits = 0;
        for _ in 0..=BITS {
            bits <<= 1;
            if self >= divisor {
                self.subtract(&divisor);
                bits |= 1;
            }
            self.shift_left(1);
        }
        Leading {
            bits,
            exponent: own.cast_signed() - divisors.cast_signed(),
            inexact: !self.is_zero(),
        }
    }

    /// The same for one word by less than one, which is all that most floats need.
    fn leading_of_small_quotient(&self, divisor: &Self) -> Option<Leading> {
        let ([dividend], [divisor]) = (self.0.as_slice(), divisor.0.as_slice()) else {
            return None;
        };
        if divisor.leading_zeros() == 0 {
            return None;
        }
        let up = u128::from(*dividend).leading_zeros();
        let (dividend, divisor) = (u128::from(*dividend) << up, u128::from(*divisor));
        Some(Leading {
            bits: dividend / divisor,
            exponent: -up.cast_signed(),
            inexact: !dividend.is_multiple_of(divisor),
        })
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_len = self.0.len().cmp(&other.0.len());
        by_len.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

/// The highest bits of a number: it is `bits` times 2 to the power of `exponent`, and, if it is
/// `inexact`, more than that by less than one in `bits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leading {
    pub(super) bits: u128,
    pub(super) exponent: i32,
    pub(super) inexact: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn natural(number: u128) -> Natural {
        let mut natural = Natural(vec![number as u64, (number >> 64) as u64]);
        natural.trim();
        natural
    }

    #[test]
    fn digits_of_any_count_make_a_number() {
        let zeros = |count: usize| std::iter::once(1).chain(std::iter::repeat_n(0, count));
        assert!(Natural::from_digits([0, 0, 0].into_iter(), 10).is_zero());
        for exponent in [0, 18, 19, 20, 100, 5000] {
            let mut power = natural(1);
            power.multiply_by_power_of_5(exponent);
            power.shift_left(exponent);
            assert_eq!(Natural::from_digits(zeros(exponent as usize), 10), power);
            let mut power = natural(1);
            power.shift_left(exponent * 4);
            assert_eq!(Natural::from_digits(zeros(exponent as usize), 16), power);
        }
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_that_of_128_bits(a: u64, b in 1..u64::MAX, c: u64, shift in 0..64_u32) {
            let product = u128::from(a) * u128::from(b) + u128::from(c);
            let mut number = natural(a.into());
            number.multiply_add(b, c);
            prop_assert_eq!(&number, &natural(product));
            prop_assert_eq!(number.bit_len(), 128 - product.leading_zeros());
            prop_assert_eq!(number.divide(b), (product % u128::from(b)) as u64);
            prop_assert_eq!(&number, &natural(product / u128::from(b)));
            let mut number = natural(a.into());
            number.shift_left(shift);
            prop_assert_eq!(number, natural(u128::from(a) << shift));
        }

        #[test]
        fn comparing_and_subtracting_agree_with_that_of_128_bits(a: u128, b: u128) {
            prop_assert_eq!(natural(a).cmp(&natural(b)), a.cmp(&b));
            let mut number = natural(a.max(b));
            number.subtract(&natural(a.min(b)));
            prop_assert_eq!(number, natural(a.abs_diff(b)));
        }

        #[test]
        fn a_quotient_s_leading_bits_are_those_of_the_quotient(
            a in prop_oneof![1..=u128::MAX, 1..=u128::from(u64::MAX), 1..100_u128],
            b in prop_oneof![1..=u64::MAX, 1..100_u64],
            up in prop_oneof![Just(0), 0..300_u32],
            down in prop_oneof![Just(0), 0..300_u32],
        ) {
            let (mut dividend, mut divisor) = (natural(a), natural(b.into()));
            dividend.shift_left(up);
            divisor.shift_left(down);
            let leading = dividend.clone().leading_of_quotient(divisor.clone());
            prop_assert!(leading.bits.ilog2() >= 64);
            // bits * divisor <= dividend < (bits + 1) * divisor, once both have the same scale.
            let times_divisor = |bits: u128| {
                let mut product = divisor.clone();
                product.multiply_add(bits as u64, 0);
                let mut high = divisor.clone();
                high.multiply_add((bits >> 64) as u64, 0);
                high.shift_left(64);
                for (at, word) in high.0.iter().enumerate() {
                    let mut part = Natural(vec![*word]);
                    part.trim();
                    part.shift_left(at as u32 * 64);
                    product = add(&product, &part);
                }
                product.shift_left(leading.exponent.max(0).unsigned_abs());
                product
            };
            dividend.shift_left(leading.exponent.min(0).unsigned_abs());
            let order = times_divisor(leading.bits).cmp(&dividend);
            prop_assert_eq!(order, if leading.inexact { Ordering::Less } else { Ordering::Equal });
            prop_assert!(times_divisor(leading.bits + 1) > dividend);
        }
    }

    fn add(a: &Natural, b: &Natural) -> Natural {
        let len = a.0.len().max(b.0.len());
        let mut carry = 0_u128;
        let mut sum = Natural(Vec::new());
        for at in 0..=len {
            let word = |number: &Natural| u128::from(number.0.get(at).copied().unwrap_or(0));
            carry += word(a) + word(b);
            sum.0.push(carry as u64);
            carry >>= 64;
        }
        sum.trim();
        sum
    }
}
