// SPDX-License-Identifier: Apache-2.0
//! The Containerizer trait, its facets and events
