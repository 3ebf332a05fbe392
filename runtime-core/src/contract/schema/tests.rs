use super::*;
use proptest::prelude::*;

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![5 => 0usize..4, 1 => any::<usize>()]
}

fn dim() -> impl Strategy<Value = Dim> {
    let free = ("[nm]", size()).prop_map(|(name, max)| Dim::free(name, max));
    prop_oneof![Just(Dim::Batch), size().prop_map(Dim::Fixed), free]
}

/// Mostly such as are allowed.
fn dims() -> impl Strategy<Value = Vec<Dim>> {
    let rest = prop::collection::vec(dim(), 0..3);
    (prop::bool::weighted(0.9), rest).prop_map(|(allowed, mut rest)| {
        if allowed {
            rest.retain(|dim| *dim != Dim::Batch);
            rest.insert(0, Dim::Batch);
        }
        rest
    })
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(vec![DType::U32, DType::F32])
}

fn spec() -> impl Strategy<Value = TensorSpec> {
    ("[a-d]{1,2}", dtype(), dims()).prop_map(|(name, dtype, dims)| TensorSpec::new(name, dtype, dims))
}

fn info() -> impl Strategy<Value = TensorInfo> {
    (dtype(), prop::collection::vec(size(), 0..4))
        .prop_map(|(dtype, dims)| TensorInfo { dtype, dims: Dims::from(dims) })
}

/// What a schema allows, written out a second time.
fn fits(spec: &TensorSpec, info: &TensorInfo) -> bool {
    let allowed = |(dim, size): (&Dim, &usize)| match dim {
        Dim::Batch => *size > 0,
        Dim::Fixed(fixed) => fixed == size,
        Dim::Free { max, .. } => *size > 0 && size <= max,
    };
    spec.dtype() == info.dtype
        && spec.dims().len() == info.dims.len()
        && spec.dims().iter().zip(&info.dims).all(allowed)
}

/// Whether free dims of one name have one size.
fn agree(specs: &[TensorSpec], infos: &[TensorInfo]) -> bool {
    let mut sizes = std::collections::HashMap::new();
    let dims = specs.iter().zip(infos).flat_map(|(spec, info)| spec.dims().iter().zip(&info.dims));
    dims.into_iter().all(|(dim, size)| match dim {
        Dim::Free { name, .. } => *sizes.entry(name.clone()).or_insert(*size) == *size,
        _ => true,
    })
}

proptest! {
    #[test]
    fn any_tensors_are_refused_or_fit(
        specs in prop::collection::vec(spec(), 0..4),
        infos in prop::collection::vec(info(), 0..4),
    ) {
        let Ok(schema) = Schema::new(specs.clone()) else { return Ok(()) };
        let rows: Vec<_> = infos.iter().map(TensorInfo::rows).collect();
        let fit = infos.len() == specs.len()
            && specs.iter().zip(&infos).all(|(spec, info)| fits(spec, info))
            && rows.windows(2).all(|pair| pair[0] == pair[1])
            && agree(&specs, &infos);
        let shape = schema.check(&infos);
        prop_assert_eq!(shape.is_ok(), fit, "{:?}", shape);
        if let Ok(shape) = shape {
            prop_assert_eq!(Some(shape.rows), rows[0]);
        }
    }

    #[test]
    fn tensors_that_fit_are_taken(
        specs in prop::collection::vec(spec(), 1..4),
        rows in 1usize..5,
        free in 0usize..3,
    ) {
        let Ok(schema) = Schema::new(specs) else { return Ok(()) };
        let infos: Vec<_> = schema.tensors().iter().map(|spec| {
            let dims = spec.dims().iter().map(|dim| match *dim {
                Dim::Batch => rows,
                Dim::Fixed(size) => size,
                Dim::Free { max, .. } => free.min(max),
            });
            TensorInfo { dtype: spec.dtype(), dims: dims.collect() }
        }).collect();
        let fit = schema.tensors().iter().zip(&infos).all(|(spec, info)| fits(spec, info))
            && agree(schema.tensors(), &infos);
        prop_assert_eq!(schema.check(&infos).is_ok(), fit);
    }
}
