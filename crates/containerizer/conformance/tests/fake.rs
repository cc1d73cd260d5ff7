// SPDX-License-Identifier: Apache-2.0
//! The whole suite on the containerizer in memory: a rule that can not be kept is found here, without a
//! kernel.

use berth_conformance::FakeContainerizer;

berth_conformance::suite!(FakeContainerizer::subject);
