//! Listing the parts of an upload, which s3s-fs (0.14.1) does without entity tags and pages, and not while a part comes in.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, ETag, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, Part, PutObjectInput, PutObjectOutput,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

/// Parts on a page, as S3 has them.
const PAGE: i32 = 1000;

/// Of an upload, by their numbers: entity tag and size.
type Parts = BTreeMap<i32, (ETag, i64)>;

pub(super) struct Server {
    files: FileSystem,
    /// Uploads that are neither completed nor aborted.
    uploads: Mutex<HashMap<String, Parts>>,
}

impl Server {
    pub(super) fn new(files: FileSystem) -> Self {
        Self {
            files,
            uploads: Mutex::default(),
        }
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Parts>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self, asked: &ListPartsInput) -> S3Result<ListPartsOutput> {
        let uploads = self.uploads();
        let parts = uploads
            .get(&asked.upload_id)
            .ok_or_else(|| s3_error!(NoSuchUpload))?;
        let most = asked.max_parts.unwrap_or(PAGE).clamp(1, PAGE);
        let mut behind = parts.range(asked.part_number_marker.unwrap_or_default() + 1..);
        let page = behind
            .by_ref()
            .take(usize::try_from(most).unwrap_or_default());
        let page: Vec<Part> = page
            .map(|(number, (tag, size))| Part {
                part_number: Some(*number),
                e_tag: Some(tag.clone()),
                size: Some(*size),
                last_modified: Some(SystemTime::UNIX_EPOCH.into()),
                ..Part::default()
            })
            .collect();
        let more = behind.next().is_some();
        Ok(ListPartsOutput {
            bucket: Some(asked.bucket.clone()),
            key: Some(asked.key.clone()),
            upload_id: Some(asked.upload_id.clone()),
            max_parts: Some(most),
            is_truncated: Some(more),
            next_part_number_marker: page
                .last()
                .filter(|_| more)
                .and_then(|part| part.part_number),
            parts: Some(page),
            ..ListPartsOutput::default()
        })
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

            async fn create_multipart_upload(
                &self,
                request: S3Request<CreateMultipartUploadInput>,
            ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
                let response = self.files.create_multipart_upload(request).await?;
                self.uploads().extend(response.output.upload_id.clone().map(|upload| (upload, Parts::new())));
                Ok(response)
            }

            async fn abort_multipart_upload(
                &self,
                request: S3Request<AbortMultipartUploadInput>,
            ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
                let upload = request.input.upload_id.clone();
                let response = self.files.abort_multipart_upload(request).await?;
                self.uploads().remove(&upload);
                Ok(response)
            }

            async fn complete_multipart_upload(
                &self,
                request: S3Request<CompleteMultipartUploadInput>,
            ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
                let upload = request.input.upload_id.clone();
                let response = self.files.complete_multipart_upload(request).await?;
                self.uploads().remove(&upload);
                Ok(response)
            }

            async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
                let (upload, number) = (request.input.upload_id.clone(), request.input.part_number);
                let size = request.input.content_length.unwrap_or_default();
                let response = self.files.upload_part(request).await?;
                if let (Some(tag), Some(parts)) = (&response.output.e_tag, self.uploads().get_mut(&upload)) {
                    parts.insert(number, (tag.clone(), size));
                }
                Ok(response)
            }

            async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
                Ok(S3Response::new(self.list(&request.input)?))
            }
        }
    };
}

server! {
    copy_object(CopyObjectInput) -> CopyObjectOutput;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    get_object(GetObjectInput) -> GetObjectOutput;
    head_bucket(HeadBucketInput) -> HeadBucketOutput;
    head_object(HeadObjectInput) -> HeadObjectOutput;
    list_objects(ListObjectsInput) -> ListObjectsOutput;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    put_object(PutObjectInput) -> PutObjectOutput;
}
