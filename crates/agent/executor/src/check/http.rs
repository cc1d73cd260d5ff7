// SPDX-License-Identifier: Apache-2.0
//! One request, as `curl -sSLkg` makes it: redirects are followed, certificates not verified, and what comes is thrown
//! away.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::TlsConfig;

/// As many as curl follows.
const REDIRECTS: u32 = 50;
/// No more is read of an answer: by then its status is known, and the rest is not worth the time of the agent.
const ENOUGH: u64 = 1 << 20;

/// The status of the last answer.
pub(super) fn status(url: &str, timeout: Option<Duration>) -> Result<u16, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls =
        TlsConfig::builder().disable_verification(true).unversioned_rustls_crypto_provider(provider).build();
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(REDIRECTS)
        .timeout_global(timeout)
        .proxy(None)
        .user_agent("berth")
        .tls_config(tls)
        .build()
        .into();
    let mut answer = agent.get(url).call().map_err(|error| chain(&error))?;
    let mut body = answer.body_mut().as_reader().take(ENOUGH);
    std::io::copy(&mut body.by_ref(), &mut std::io::sink()).map_err(|error| chain(&error))?;
    Ok(answer.status().as_u16())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
