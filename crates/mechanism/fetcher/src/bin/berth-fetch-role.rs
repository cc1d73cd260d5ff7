// SPDX-License-Identifier: Apache-2.0
//! A fetching child alone, for the tests of this crate: `berth` itself is one when it is told to be.

fn main() {
    std::process::exit(berth_fetcher::role());
}
