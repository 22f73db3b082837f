//! A network's parameters by name: out of it, into it, and one by one in training.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::error::UnetError;

/// Joins the names of nested modules to a parameter's name, as PyTorch's `state_dict` does.
///
/// The variants of an enum are alternatives at one place of the network, not a level of names.
#[derive(Debug, Default)]
pub struct ParamPath {
    parts: Vec<String>,
}

impl ParamPath {
    /// To be called from `enter_module` of a visitor or mapper.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.parts.push(name.to_owned());
        }
    }

    /// To be called from `exit_module` of a visitor or mapper.
    pub fn exit(&mut self, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.parts.pop();
        }
    }

    /// The name of the parameter being visited, such as `mid_block.resnets.0.conv1.weight`.
    pub fn name(&self) -> String {
        self.parts.join(".")
    }
}

/// Name and shape of each parameter in the order of the network, without reading values.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    struct Shapes {
        path: ParamPath,
        found: Vec<(String, Vec<usize>)>,
    }
    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, container_type: &str) {
            self.path.exit(container_type);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found
                .push((self.path.name(), param.lazy_shape().to_vec()));
        }
    }
    let mut visitor = Shapes {
        path: ParamPath::default(),
        found: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// Name and values of each parameter in the order of the network.
pub fn export<M: Module>(module: &M) -> Vec<(String, TensorData)> {
    struct Export {
        path: ParamPath,
        found: Vec<(String, TensorData)>,
    }
    impl ModuleVisitor for Export {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, container_type: &str) {
            self.path.exit(container_type);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push((self.path.name(), param.val().into_data()));
        }
    }
    let mut visitor = Export {
        path: ParamPath::default(),
        found: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// The network with all its parameters replaced by the named tensors (f32, row-major).
///
/// # Errors   [`UnetError::Parameters`] if the names differ from the network's,
/// [`UnetError::ParameterShape`] if a shape does
pub fn load<M: Module>(
    module: M,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
) -> Result<M, UnetError> {
    struct Load {
        path: ParamPath,
        tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
        missing: Vec<String>,
        wrong_shape: Option<UnetError>,
    }
    impl ModuleMapper for Load {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }
        fn exit_module(&mut self, _name: &str, container_type: &str) {
            self.path.exit(container_type);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.name();
            let Some((shape, data)) = self.tensors.remove(&name) else {
                self.missing.push(name);
                return param;
            };
            let expected = param.lazy_shape().to_vec();
            if shape != expected || data.len() != expected.iter().product::<usize>() {
                self.wrong_shape.get_or_insert(UnetError::ParameterShape {
                    name,
                    expected,
                    got: shape,
                });
                return param;
            }
            let device = param.lazy_device();
            let value = Tensor::<D>::from_data(TensorData::new(data, shape), &device);
            let id = param.id;
            param.transform_for_load(value, id)
        }
    }
    let mut loader = Load {
        path: ParamPath::default(),
        tensors: tensors
            .into_iter()
            .map(|(name, shape, data)| (name, (shape, data)))
            .collect(),
        missing: Vec::new(),
        wrong_shape: None,
    };
    let module = module.map(&mut loader);
    if let Some(error) = loader.wrong_shape {
        return Err(error);
    }
    if !loader.missing.is_empty() || !loader.tensors.is_empty() {
        let mut unused: Vec<String> = loader.tensors.into_keys().collect();
        unused.sort();
        return Err(UnetError::Parameters {
            missing: loader.missing,
            unused,
        });
    }
    Ok(module)
}
