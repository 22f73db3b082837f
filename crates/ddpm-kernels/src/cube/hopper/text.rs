//! A kernel in CUDA C++, which NVRTC compiles like what CubeCL writes.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::ir::metadata::Info;
use cubecl::ir::settings::Dim3;
use cubecl::prelude::*;
use cubecl::server::{KernelArguments, MetadataBindingInfo};

const COMMON: &str = include_str!("common.cu");

/// A kernel of this folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Program {
    /// Its function.
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// Threads of a block.
    pub(super) threads: u32,
    /// What the factors are: bf16 or f16.
    pub(super) dtype: DType,
    /// What else stands in front of it, by name.
    pub(super) defines: Vec<(&'static str, String)>,
}

impl KernelMetadata for Program {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>()
            .cube_dim(Dim3::new_1d(self.threads))
            .info((self.clone(), COMMON))
    }

    fn address_type(&self) -> ElemType {
        AddressType::U64.unsigned_type()
    }
}

impl CubeKernel for Program {
    fn define(&self) -> KernelDefinition {
        let settings = KernelSettings::new(
            Dim3::new_1d(self.threads),
            ExecutionMode::Unchecked,
            AddressType::U64,
        );
        KernelDefinition {
            body: Scope::root(settings.clone()),
            settings,
            info: Info::default(),
        }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        let (value, short) = match self.dtype {
            DType::F16 => ("__half", "f16"),
            _ => ("__nv_bfloat16", "bf16"),
        };
        let mut source = format!("#define VALUE {value}\n#define WGMMA_TYPE \"{short}\"\n");
        for (name, value) in &self.defines {
            source += &format!("#define {name} {value}\n");
        }
        Some(PrecompiledSource {
            source: source + COMMON + self.text,
            entrypoint_name: self.name.to_owned(),
            lang: "cuda",
        })
    }
}

impl Program {
    /// Starts it: `read` and the `written` tensor are its arguments in the order that `at` says, where `written` stands, and
    /// then `words`, which are a struct of an even number of them.
    pub(super) fn launch(
        self,
        read: &[&CubeTensor],
        (at, written): (usize, &CubeTensor),
        words: &[u32],
        blocks: [usize; 3],
    ) {
        let mut arguments = KernelArguments::new();
        let (before, after) = read.split_at(at);
        let all = [before, &[written], after].concat();
        for (i, tensor) in all.into_iter().enumerate() {
            let io = match i == at {
                true => BufferIOAttr::WriteOnly,
                false => BufferIOAttr::ReadOnly,
            };
            arguments = arguments.with_buffer_io(tensor.handle.clone().binding(), io);
        }
        // Words are passed in pairs.
        let pairs: Vec<u64> = words
            .chunks_exact(2)
            .map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32)
            .collect();
        let end = pairs.len();
        arguments = arguments.with_info(MetadataBindingInfo::new(pairs, end));
        let [x, y, z] = blocks.map(|count| count as u32);
        let client = &written.client;
        client.launch(Box::new(self), CubeCount::Static(x, y, z), arguments);
    }
}
