// SPDX-License-Identifier: Apache-2.0
//! The native containerizer's blocking core, for `berth run`: an agent for one container, without the contract's
//! answers and threads. It is named here, because nobody else names a concrete containerizer.

pub use berth_mesos::{
    Collected, DEFAULT_CAPABILITIES, Directories, Ending, Error, Event, Fetching, ImageSource, Kind, Listed,
    Live, Native, Outcome, Output, Record, Request, RootSource, Settings, Standing, WatchFetch, Written,
};

pub use berth_mesos::early;
