//! Modules in an order, each with a name of its own.

use burn::module::{
    Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

/// As PyTorch's `ModuleDict`: the names are part of the parameters' names.
#[derive(Debug, Clone)]
pub struct Dict<M>(pub Vec<(String, M)>);

impl<M> Dict<M> {
    /// The modules in their order.
    pub fn iter(&self) -> impl Iterator<Item = &M> {
        self.0.iter().map(|(_, module)| module)
    }
}

impl<M: Module> Dict<M> {
    fn each(self, change: impl Fn(M) -> M) -> Self {
        let changed = self.0.into_iter();
        Self(changed.map(|(name, m)| (name, change(m))).collect())
    }
}

impl<M: Module> Module for Dict<M> {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (name, module) in &self.0 {
            visitor.enter_module(name, "Dict");
            module.visit(visitor);
            visitor.exit_module(name, "Dict");
        }
    }

    fn map<N: ModuleMapper>(self, mapper: &mut N) -> Self {
        let mapped = self.0.into_iter().map(|(name, module)| {
            mapper.enter_module(&name, "Dict");
            let module = module.map(mapper);
            mapper.exit_module(&name, "Dict");
            (name, module)
        });
        Self(mapped.collect())
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|module| module.to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|module| module.fork(device))
    }

    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.iter()
            .fold(devices, |devices, module| module.collect_devices(devices))
    }

    fn valid(&self) -> Self {
        let each = self.0.iter();
        Self(each.map(|(name, m)| (name.clone(), m.valid())).collect())
    }

    fn train(self) -> Self {
        self.each(Module::train)
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize)
    }
}

impl<M: ModuleDisplay> ModuleDisplayDefault for Dict<M> {
    fn content(&self, content: Content) -> Option<Content> {
        let each = self.0.iter();
        each.fold(content, |content, (name, module)| content.add(name, module))
            .set_top_level_type("Dict")
            .optional()
    }
}

impl<M: ModuleDisplay> ModuleDisplay for Dict<M> {}
