// SPDX-License-Identifier: Apache-2.0
//! Root filesystems from archives, unpacked safely
