//! What s3s-fs (0.14.1) leaves out of listing the parts of an upload: their entity tags and pages.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, ETag, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, Part, PutObjectInput, PutObjectOutput,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;

/// Parts on a page, as S3 has them.
const PAGE: i32 = 1000;

pub(super) struct Server {
    files: FileSystem,
    /// By upload and number.
    tags: Mutex<HashMap<(String, i32), ETag>>,
}

impl Server {
    pub(super) fn new(files: FileSystem) -> Self {
        Self {
            files,
            tags: Mutex::default(),
        }
    }

    fn page(&self, asked: &(String, i32, i32), all: Vec<Part>) -> (Vec<Part>, Option<i32>) {
        let (upload, after, most) = asked;
        let mut parts: Vec<Part> = all
            .into_iter()
            .filter(|part| part.part_number.is_some_and(|number| number > *after))
            .collect();
        parts.sort_by_key(|part| part.part_number);
        let more = parts.len() > usize::try_from(*most).unwrap_or_default();
        parts.truncate(usize::try_from(*most).unwrap_or_default());
        let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        for part in &mut parts {
            let number = part.part_number.unwrap_or_default();
            part.e_tag = tags.get(&(upload.clone(), number)).cloned();
        }
        let last = parts.last().and_then(|part| part.part_number);
        (parts, last.filter(|_| more))
    }
}

/// The server does these as the files do.
macro_rules! server {
    ($($operation:ident($input:ty) -> $output:ty;)*) => {
        #[async_trait::async_trait]
        impl S3 for Server {
            $(async fn $operation(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.files.$operation(request).await
            })*

            async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
                let part = (request.input.upload_id.clone(), request.input.part_number);
                let response = self.files.upload_part(request).await?;
                if let Some(tag) = &response.output.e_tag {
                    self.tags.lock().unwrap_or_else(PoisonError::into_inner).insert(part, tag.clone());
                }
                Ok(response)
            }

            async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
                let input = &request.input;
                let after = input.part_number_marker.unwrap_or_default();
                let asked = (input.upload_id.clone(), after, input.max_parts.unwrap_or(PAGE).clamp(1, PAGE));
                let mut response = self.files.list_parts(request).await?;
                let listed = &mut response.output;
                let (parts, next) = self.page(&asked, listed.parts.take().unwrap_or_default());
                listed.parts = Some(parts);
                listed.max_parts = Some(asked.2);
                listed.is_truncated = Some(next.is_some());
                listed.next_part_number_marker = next;
                Ok(response)
            }
        }
    };
}

server! {
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    copy_object(CopyObjectInput) -> CopyObjectOutput;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    get_object(GetObjectInput) -> GetObjectOutput;
    head_bucket(HeadBucketInput) -> HeadBucketOutput;
    head_object(HeadObjectInput) -> HeadObjectOutput;
    list_objects(ListObjectsInput) -> ListObjectsOutput;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    put_object(PutObjectInput) -> PutObjectOutput;
}
