// SPDX-License-Identifier: Apache-2.0
//! Messages that hold secrets do not show them when they are printed, whatever they are part of.

use std::fmt;

use crate::v1::{Credential, secret};

impl fmt::Debug for secret::Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value { data: *** }")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Credential { principal, secret: _ } = self;
        write!(f, "Credential {{ principal: {principal:?}, secret: *** }}")
    }
}

#[cfg(test)]
mod tests {
    use crate::v1::{Credential, Environment, Secret, environment::Variable, secret};

    #[test]
    fn printing_a_message_never_shows_the_secret_in_it() {
        let value = Some(secret::Value { data: b"hunter2".to_vec() });
        let secret = Some(Secret { r#type: None, reference: None, value });
        let variable = Variable { name: "A".into(), secret, ..Default::default() };
        let text = format!("{:?}", Environment { variables: vec![variable] });
        assert!(text.contains("***") && !text.contains("hunter2") && !text.contains("104"), "{text}");
        let text = format!("{:?}", Credential { principal: "p".into(), secret: Some("hunter2".into()) });
        assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
    }
}
