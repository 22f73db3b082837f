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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{network, tiny_config};

    type Named = (String, Vec<usize>, Vec<f32>);

    fn weights() -> Vec<Named> {
        let net = network(&tiny_config(), &Device::flex());
        export(&net)
            .into_iter()
            .map(|(name, data)| (name, data.shape().to_vec(), data.try_to_vec().unwrap()))
            .collect()
    }

    fn try_load(tensors: Vec<Named>) -> Result<Vec<(String, TensorData)>, UnetError> {
        load(network(&tiny_config(), &Device::flex()), tensors).map(|net| export(&net))
    }

    #[test]
    fn what_was_loaded_comes_out() {
        let mut tensors = weights();
        for (i, value) in tensors.iter_mut().flat_map(|(_, _, data)| data).enumerate() {
            *value = i as f32;
        }
        for ((name, _, data), (got_name, got)) in
            tensors.clone().into_iter().zip(try_load(tensors).unwrap())
        {
            assert_eq!(got_name, name);
            assert_eq!(got.try_to_vec::<f32>().unwrap(), data, "{name}");
        }
    }

    #[test]
    fn other_names_and_shapes_are_refused() {
        let missing = |tensors: &mut Vec<Named>| drop(tensors.remove(0));
        let unused = |tensors: &mut Vec<Named>| tensors.push(("extra".into(), vec![1], vec![0.0]));
        let renamed = |tensors: &mut Vec<Named>| tensors[0].0 = "conv_in.w".into();
        let transposed = |tensors: &mut Vec<Named>| tensors[0].1.reverse();
        let short = |tensors: &mut Vec<Named>| tensors[0].2.truncate(1);
        let start = "the weights do not fit this network: ";
        type Change<'a> = &'a dyn Fn(&mut Vec<Named>);
        let cases: [(Change, String); 5] = [
            (&missing, format!("{start}missing `conv_in.weight`")),
            (&unused, format!("{start}unexpected `extra`")),
            (
                &renamed,
                format!("{start}missing `conv_in.weight`, unexpected `conv_in.w`"),
            ),
            (
                &transposed,
                "tensor `conv_in.weight` has shape [3, 3, 1, 4], the network's parameter has [4, 1, 3, 3]".into(),
            ),
            (
                &short,
                "tensor `conv_in.weight` has shape [4, 1, 3, 3], the network's parameter has [4, 1, 3, 3]".into(),
            ),
        ];
        for (change, expected) in cases {
            let mut tensors = weights();
            change(&mut tensors);
            assert_eq!(try_load(tensors).unwrap_err().to_string(), expected);
        }
    }
}
