// SPDX-License-Identifier: Apache-2.0
//! How many graphics cards an agent offers: a pure function of two flags and of what NVIDIA's library counts.

use std::collections::BTreeSet;

/// Why the two flags do not agree. The texts are those of Mesos, with its two spellings of the flag's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// Devices are named, but nothing would let a container at them.
    #[error("'--nvidia_gpus_devices' can only be specified if the `--isolation` flag contains 'gpu/nvidia'")]
    NoIsolator,
    /// Devices are named, and there are to be none.
    #[error("'--nvidia_gpus_devices' cannot be specified when '--resources' specifies 0 GPUs")]
    Zero,
    /// Devices are named, but not how many.
    #[error("'--nvidia_gpus_devices' cannot be set without also setting 'gpus' in '--resources'")]
    NoCount,
    /// How many is said, but not which.
    #[error("The `gpus` resource cannot be set without also setting `--nvidia_gpu_devices`")]
    NoDevices,
    /// Half a card.
    #[error("The 'gpus' resource must be an non-negative integer")]
    NotWhole,
    /// One device twice.
    #[error("'--nvidia_gpu_devices' contains duplicates")]
    Duplicates,
    /// The numbers differ.
    #[error("'--resources' and '--nvidia_gpu_devices' specify different numbers of GPU devices")]
    Different,
    /// More than there are.
    #[error("The number of GPUs requested is greater than the number of GPUs available on the machine")]
    TooMany,
}

/// What the flags say, and what is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Whether the isolator `gpu/nvidia` is on.
    pub(crate) isolator: bool,
    /// How many devices the library counts; `None` without the library.
    pub(crate) present: Option<u64>,
    /// `gpus` of `--resources`, if it is named there at all.
    pub(crate) count: Option<f64>,
    /// `--nvidia_gpu_devices`.
    pub(crate) devices: Option<&'a [u64]>,
}

/// The number of cards to add to what `--resources` says; `None`: that stands as it is.
pub(crate) fn detect(asked: Asked<'_>) -> Result<Option<u64>, GpuError> {
    if !asked.isolator && asked.devices.is_some() {
        return Err(GpuError::NoIsolator);
    }
    let (true, Some(present)) = (asked.isolator, asked.present) else { return Ok(None) };
    match (asked.count, asked.devices) {
        (Some(0.0), Some(_)) => Err(GpuError::Zero),
        (Some(0.0), None) => Ok(None),
        (None, Some(_)) => Err(GpuError::NoCount),
        (Some(_), None) => Err(GpuError::NoDevices),
        (None, None) => Ok(Some(present)),
        (Some(count), Some(devices)) => check(count, devices, present).map(|()| None),
    }
}

fn check(count: f64, devices: &[u64], present: u64) -> Result<(), GpuError> {
    if count < 0.0 || count.fract() != 0.0 {
        return Err(GpuError::NotWhole);
    }
    let unique: BTreeSet<&u64> = devices.iter().collect();
    if unique.len() != devices.len() {
        return Err(GpuError::Duplicates);
    }
    if count != devices.len() as f64 {
        return Err(GpuError::Different);
    }
    if count > present as f64 {
        return Err(GpuError::TooMany);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: Option<f64>, devices: Option<&[u64]>) -> Result<Option<u64>, GpuError> {
        detect(Asked { isolator: true, present: Some(2), count, devices })
    }

    #[test]
    fn with_the_library_both_flags_have_to_agree() {
        assert_eq!(with(None, None), Ok(Some(2)));
        assert_eq!(with(Some(0.0), None), Ok(None));
        assert_eq!(with(Some(2.0), Some(&[0, 1])), Ok(None));
        assert_eq!(with(Some(0.0), Some(&[0])), Err(GpuError::Zero));
        assert_eq!(with(None, Some(&[0])), Err(GpuError::NoCount));
        assert_eq!(with(Some(1.0), None), Err(GpuError::NoDevices));
        assert_eq!(with(Some(0.5), Some(&[0])), Err(GpuError::NotWhole));
        assert_eq!(with(Some(2.0), Some(&[1, 1])), Err(GpuError::Duplicates));
        assert_eq!(with(Some(2.0), Some(&[1])), Err(GpuError::Different));
        assert_eq!(with(Some(3.0), Some(&[0, 1, 2])), Err(GpuError::TooMany));
    }

    #[test]
    fn without_the_library_the_resources_stand_as_they_are() {
        let asked = Asked { isolator: true, present: None, count: Some(0.5), devices: None };
        assert_eq!(detect(asked), Ok(None));
        assert_eq!(detect(Asked { devices: Some(&[0]), ..asked }), Ok(None));
    }

    #[test]
    fn without_the_isolator_devices_may_not_be_named() {
        let asked = Asked { isolator: false, present: Some(2), count: Some(1.0), devices: None };
        assert_eq!(detect(asked), Ok(None));
        assert_eq!(detect(Asked { devices: Some(&[0]), ..asked }), Err(GpuError::NoIsolator));
    }

    #[test]
    fn the_texts_are_those_of_mesos() {
        assert_eq!(
            GpuError::NoDevices.to_string(),
            "The `gpus` resource cannot be set without also setting `--nvidia_gpu_devices`"
        );
    }
}
