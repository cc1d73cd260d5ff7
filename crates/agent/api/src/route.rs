// SPDX-License-Identifier: Apache-2.0
//! From the path of a request to what answers it, as libprocess does: the routes of the agent are below its process
//! id or at the root, the longest known prefix wins, and a slash at the end means nothing.

use hyper::Uri;
use percent_encoding::percent_decode_str;

use crate::Refusal;
use crate::endpoints::Endpoint;
use hyper::StatusCode;

/// The agent's process id.
const PROCESS: &str = "/slave(1)";

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Api,
    Executor,
    Older(Endpoint),
    /// Known in Mesos, not served here.
    NotBuilt(&'static str),
}

/// Those of the agent's own process, which may also be addressed by its id; the longest first.
const OF_THE_AGENT: &[(&str, Route)] = &[
    ("/api/v1/resource_provider", Route::NotBuilt("The resource provider API")),
    ("/api/v1/executor", Route::Executor),
    ("/api/v1", Route::Api),
    ("/monitor/statistics", Route::Older(Endpoint::Statistics)),
    ("/containerizer/debug", Route::Older(Endpoint::Debug)),
    ("/containers", Route::Older(Endpoint::Containers)),
    ("/health", Route::Older(Endpoint::Health)),
    ("/events", Route::Older(Endpoint::Events)),
    ("/flags", Route::Older(Endpoint::Flags)),
    ("/state", Route::Older(Endpoint::State)),
];

/// Those of other processes.
const OF_OTHERS: &[(&str, Route)] = &[
    ("/metrics/snapshot", Route::Older(Endpoint::Metrics)),
    ("/system/stats.json", Route::Older(Endpoint::System)),
    ("/logging/toggle", Route::Older(Endpoint::Logging)),
    ("/files/download", Route::Older(Endpoint::Download)),
    ("/files/browse", Route::Older(Endpoint::Browse)),
    ("/files/debug", Route::Older(Endpoint::Places)),
    ("/files/read", Route::Older(Endpoint::Read)),
    ("/version", Route::Older(Endpoint::Version)),
];

pub(crate) fn route(uri: &Uri) -> Result<Route, Refusal> {
    let raw = uri.path();
    if !raw.starts_with('/') || uri.authority().is_some() && uri.scheme().is_none() {
        return Err(Refusal::bad_request("Request URL path must start with '/'"));
    }
    let not_found = || Refusal::bare(StatusCode::NOT_FOUND);
    let path = percent_decode_str(raw).decode_utf8().map_err(|_| not_found())?;
    if raw.contains("/..") || path.contains("/..") {
        return Err(not_found());
    }
    let of_agent = path.strip_prefix(PROCESS).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let found = match of_agent {
        Some(rest) => find(OF_THE_AGENT, rest),
        None => find(OF_OTHERS, &path).or_else(|| find(OF_THE_AGENT, &path)),
    };
    found.ok_or_else(not_found)
}

/// All routes and their paths.
pub(crate) fn all() -> impl Iterator<Item = &'static (&'static str, Route)> {
    OF_THE_AGENT.iter().chain(OF_OTHERS)
}

fn find(routes: &[(&str, Route)], path: &str) -> Option<Route> {
    let is_at_or_below =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    routes.iter().find(|(prefix, _)| is_at_or_below(prefix)).map(|(_, route)| *route)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(path: &str) -> Result<Route, (u16, String)> {
        route(&path.parse().unwrap()).map_err(|refusal| (refusal.status().as_u16(), refusal.to_string()))
    }

    #[test]
    fn the_longest_known_prefix_wins() {
        for path in [
            "/api/v1",
            "/api/v1/",
            "/api/v1/xyz",
            "/api/v1?x=/y",
            "/slave(1)/api/v1",
            "/slave%281%29/api/v1/",
        ] {
            assert_eq!(to(path), Ok(Route::Api), "{path}");
        }
        let older = |endpoint| Ok(Route::Older(endpoint));
        assert_eq!(to("/health"), older(Endpoint::Health));
        assert_eq!(to("/slave(1)/health"), older(Endpoint::Health));
        assert_eq!(to("/flags/"), older(Endpoint::Flags));
        assert_eq!(to("/version"), older(Endpoint::Version));
        assert_eq!(to("/files/read?path=/x"), older(Endpoint::Read));
        assert_eq!(to("/slave(1)/state"), older(Endpoint::State));
        assert_eq!(to("/slave(1)/api/v1/executor"), Ok(Route::Executor));
    }

    #[test]
    fn what_is_not_known_is_not_found() {
        for path in [
            "/",
            "/nope",
            "/api",
            "/api/v12",
            "/slave(1)",
            "/slave(2)/api/v1",
            "/slave(1)/version",
            "/files",
            "/tasks",
            "/../etc/passwd",
            "/api/v1/../v1",
            "/api/v1/%2e%2e/x",
            "/api/v1%ff",
        ] {
            assert_eq!(to(path), Err((404, "404 Not Found.".to_owned())), "{path}");
        }
    }

    #[test]
    fn a_path_starts_with_a_slash() {
        assert_eq!(to("nope"), Err((400, "Request URL path must start with '/'".to_owned())));
        assert_eq!(to("*"), Err((400, "Request URL path must start with '/'".to_owned())));
    }
}
