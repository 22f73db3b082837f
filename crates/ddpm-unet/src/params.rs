//! A network's parameters by name: out of it, into it, and one by one in training.

use std::collections::{HashMap, HashSet};

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

/// How the weights of one network fit another, by names and shapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fit {
    /// Parameters that have a tensor of their name and shape.
    pub fitting: Vec<String>,
    /// Those whose tensor has another shape.
    pub reshaped: Vec<String>,
    /// Those that have none.
    pub missing: Vec<String>,
    /// Tensors that are no parameter's.
    pub unused: Vec<String>,
}

impl Fit {
    /// How tensors of these names and shapes fit parameters.
    #[must_use]
    pub fn of(parameters: &[(String, Vec<usize>)], tensors: &[(String, Vec<usize>)]) -> Self {
        let given: HashMap<&str, &[usize]> = tensors
            .iter()
            .map(|(name, shape)| (name.as_str(), shape.as_slice()))
            .collect();
        let mut fit = Self::default();
        for (name, shape) in parameters {
            let list = match given.get(name.as_str()) {
                None => &mut fit.missing,
                Some(other) if *other == shape.as_slice() => &mut fit.fitting,
                Some(_) => &mut fit.reshaped,
            };
            list.push(name.clone());
        }
        let own: HashSet<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        let others = tensors.iter().map(|(name, _)| name);
        fit.unused = others
            .filter(|name| !own.contains(name.as_str()))
            .cloned()
            .collect();
        fit
    }
}

/// The network with those parameters replaced that another one has by the same name and shape.
///
/// # Errors   [`UnetError::Parameters`] if none is, but for biases and scales, whose shapes are alike by chance
pub fn load_fitting<M: Module>(module: M, other: &impl Module) -> Result<(M, Fit), UnetError> {
    let own = shapes(&module);
    let fit = Fit::of(&own, &shapes(other));
    let mut matrices = own.iter().filter(|(_, shape)| shape.len() > 1);
    if !matrices.any(|(name, _)| fit.fitting.contains(name)) {
        return Err(UnetError::Parameters {
            missing: fit.missing.into_iter().chain(fit.reshaped).collect(),
            unused: fit.unused,
        });
    }
    let fitting: HashSet<&String> = fit.fitting.iter().collect();
    let is_other = |(name, _): &(String, TensorData)| fitting.contains(name);
    let given = export(other).into_iter().filter(is_other);
    let kept = export(&module).into_iter().filter(|own| !is_other(own));
    let all = given.chain(kept).map(|(name, data)| {
        let shape = data.shape().to_vec();
        // Parameters are f32 wherever they are.
        let data = data.try_into_vec().unwrap_or_default();
        (name, shape, data)
    });
    let module = load(module, all.collect::<Vec<_>>())?;
    Ok((module, fit))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{network, tiny_config};
    use crate::{Init, InitKind, UNet2DConfig};

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

    #[test]
    fn what_fits_is_taken_and_what_does_not_is_named() {
        let device = Device::flex();
        let classes = |count| UNet2DConfig {
            num_class_embeds: count,
            ..tiny_config()
        };
        let names = |names: &[String]| names.join(" ");
        let own = network(&classes(Some(3)), &device);
        // All of the other's numbers are told from all of ours.
        let other = |config: &UNet2DConfig| {
            let net = network(config, &device);
            let all = export(&net).into_iter().map(|(name, data)| {
                let values = data.try_to_vec::<f32>().unwrap();
                let moved = values.into_iter().map(|x| x + 100.0).collect();
                (name, data.shape().to_vec(), moved)
            });
            load(network(config, &device), all.collect::<Vec<Named>>()).unwrap()
        };
        let same = other(&classes(Some(3)));
        let (loaded, fit) = load_fitting(network(&classes(Some(3)), &device), &same).unwrap();
        assert_eq!(export(&loaded), export(&same));
        assert_eq!(fit.fitting.len(), shapes(&own).len());

        let (loaded, fit) = load_fitting(
            network(&classes(Some(3)), &device),
            &other(&classes(Some(5))),
        )
        .unwrap();
        assert_eq!(names(&fit.reshaped), "class_embedding.weight");
        assert_eq!((fit.missing, fit.unused), (vec![], vec![]));
        for ((name, got), (_, before)) in export(&loaded).into_iter().zip(export(&own)) {
            let moved = got.try_to_vec::<f32>().unwrap() != before.try_to_vec::<f32>().unwrap();
            assert_eq!(moved, name != "class_embedding.weight", "{name}");
        }
        let without = other(&classes(None));
        let (_, fit) = load_fitting(network(&classes(Some(3)), &device), &without).unwrap();
        assert_eq!(names(&fit.missing), "class_embedding.weight");
        let (_, fit) = load_fitting(without, &own).unwrap();
        assert_eq!(names(&fit.unused), "class_embedding.weight");

        let plain =
            crate::PlainUNet::new(1, &[2], 10, &mut Init::new(0, InitKind::Default, &device));
        let refused = load_fitting(own, &plain.unwrap()).unwrap_err();
        assert!(matches!(refused, UnetError::Parameters { .. }), "{refused}");
    }
}
