//! Operations: what the log holds of a command that writes.
//!
//! | code | operation | behind the code |
//! |---|---|---|
//! | 1 | SET | the key's length (4 bytes, little-endian), the key, the value |
//! | 2 | DEL | the key |
//!
//! The meaning of a code never changes once it was released: a new meaning is a new code.

const SET: u8 = 1;
const DEL: u8 = 2;

/// A change to the store, as it is logged and applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Gives a key a value.
    Set {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes a key.
    Del {
        /// The key.
        key: &'a [u8],
    },
}

/// These bytes are not an operation that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOperation {
    /// The code is unknown.
    #[error(
        "operation code {0} is unknown to this version: use the postres that wrote the log, or a newer one"
    )]
    UnknownCode(u8),
    /// What follows the code does not fit it.
    #[error("the operation is cut short")]
    Short,
}

impl<'a> Operation<'a> {
    /// Appends the operation's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Set { key, value } => {
                out.push(SET);
                // Keys come from requests, whose length is bounded far below 4 GiB.
                out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(key);
                out.extend_from_slice(value);
            }
            Self::Del { key } => {
                out.push(DEL);
                out.extend_from_slice(key);
            }
        }
    }

    /// Reads an operation back.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BadOperation> {
        let (&code, rest) = bytes.split_first().ok_or(BadOperation::Short)?;
        match code {
            SET => {
                let (len, rest) = rest.split_first_chunk().ok_or(BadOperation::Short)?;
                let len = u32::from_le_bytes(*len) as usize;
                let (key, value) = rest.split_at_checked(len).ok_or(BadOperation::Short)?;
                Ok(Self::Set { key, value })
            }
            DEL => Ok(Self::Del { key: rest }),
            code => Err(BadOperation::UnknownCode(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_operation_reads_back_as_it_was_written(key: Vec<u8>, value: Vec<u8>) {
            for operation in [Operation::Set { key: &key, value: &value }, Operation::Del { key: &key }] {
                let mut bytes = Vec::new();
                operation.encode(&mut bytes);
                prop_assert_eq!(Operation::decode(&bytes), Ok(operation));
            }
        }

        #[test]
        fn any_bytes_are_an_operation_or_an_error(bytes: Vec<u8>) {
            if let Ok(operation) = Operation::decode(&bytes) {
                let mut again = Vec::new();
                operation.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn an_unknown_code_is_named() {
        assert_eq!(
            Operation::decode(&[77, 1]),
            Err(BadOperation::UnknownCode(77))
        );
        assert_eq!(Operation::decode(&[]), Err(BadOperation::Short));
        assert_eq!(
            Operation::decode(&[SET, 5, 0, 0, 0, b'k']),
            Err(BadOperation::Short)
        );
    }
}
