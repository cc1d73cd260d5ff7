// SPDX-License-Identifier: Apache-2.0
//! placeholder
#[derive(Debug)]
/// x
pub struct MesosContainerizer;
