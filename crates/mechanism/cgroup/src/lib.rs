// SPDX-License-Identifier: Apache-2.0
//! Controllers as data over cgroup v1 and v2 hierarchies
