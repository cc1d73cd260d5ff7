// SPDX-License-Identifier: Apache-2.0
//! create(flags) and resources(flags): the one place that names all containerizers
