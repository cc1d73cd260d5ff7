// SPDX-License-Identifier: Apache-2.0
//! The facets, where any child has them. What a container's own child lacks is refused as unsupported: a face can not know
//! before whose the container is.

use berth_contract::{
    Answer, Attach, Attached, Containerizer, Error, Exec, ExecRequest, ExecSession, NestedContainer, Nesting,
    Pause, Streams, WindowSize, ready, require,
};
use berth_model::ContainerId;
use std::sync::Arc;

use crate::composing::ComposingContainerizer;

impl ComposingContainerizer {
    /// Asks the facet of a container's child; `id` decides whose it is.
    fn facet<'a, F, T>(
        &'a self,
        id: &ContainerId,
        facet: impl FnOnce(&'a Arc<dyn Containerizer>) -> Option<&'a F>,
        ask: impl FnOnce(&'a F) -> Answer<'a, T>,
    ) -> Answer<'a, T>
    where
        F: ?Sized + 'a,
        T: Send + 'a,
    {
        let Some(child) = self.inner.owner_of_root(id) else {
            return ready(Err(Error::UnknownContainer(id.clone())));
        };
        match require(facet(child)) {
            Ok(facet) => ask(facet),
            Err(error) => ready(Err(error)),
        }
    }
}

impl Attach for ComposingContainerizer {
    fn connect(&self, id: &ContainerId, streams: Streams) -> Answer<'_, Attached> {
        self.facet(id, |child| child.attach(), |attach| attach.connect(id, streams))
    }

    fn resize(&self, id: &ContainerId, size: WindowSize) -> Answer<'_, ()> {
        self.facet(id, |child| child.attach(), |attach| attach.resize(id, size))
    }

    fn end_input(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.facet(id, |child| child.attach(), |attach| attach.end_input(id))
    }
}

impl Exec for ComposingContainerizer {
    fn run(&self, id: &ContainerId, request: ExecRequest) -> Answer<'_, ExecSession> {
        self.facet(id, |child| child.exec(), |exec| exec.run(id, request))
    }
}

impl Pause for ComposingContainerizer {
    fn freeze(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.facet(id, |child| child.pause(), |pause| pause.freeze(id))
    }

    fn thaw(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.facet(id, |child| child.pause(), |pause| pause.thaw(id))
    }
}

impl Nesting for ComposingContainerizer {
    /// Of the child that can go deepest.
    fn depth(&self) -> usize {
        let depths = self.inner.children.iter().filter_map(|child| child.containerizer.nesting());
        depths.map(|nesting| nesting.depth()).max().unwrap_or(0)
    }

    fn children(&self, id: &ContainerId) -> Answer<'_, Vec<ContainerId>> {
        self.facet(id, |child| child.nesting(), |nesting| nesting.children(id))
    }

    fn kept(&self, id: &ContainerId) -> Option<NestedContainer> {
        self.inner.owner_of_root(id)?.nesting()?.kept(id)
    }
}
