/* Made by google_tables.mjs of Google's own descriptions; google_schema.h says how it reads. */
#include "google_schema.h"

/* clang-format off */
const char *const google_methods[] = {
    "artifactregistry.projects.locations.operations.get GET /v1/projects/*/locations/*/operations"
    "/* -",
    "artifactregistry.projects.locations.repositories.create POST /v1/projects/*/locations/*/repo"
    "sitories artifactregistry.Repository repositoryId=s",
    "artifactregistry.projects.locations.repositories.delete DELETE /v1/projects/*/locations/*/re"
    "positories/* -",
    "artifactregistry.projects.locations.repositories.get GET /v1/projects/*/locations/*/reposito"
    "ries/* -",
    "artifactregistry.projects.locations.repositories.getIamPolicy GET /v1/projects/*/locations/*"
    "/repositories/*:getIamPolicy - options.requestedPolicyVersion=i",
    "artifactregistry.projects.locations.repositories.list GET /v1/projects/*/locations/*/reposit"
    "ories - filter=s orderBy=s pageSize=i pageToken=s",
    "artifactregistry.projects.locations.repositories.setIamPolicy POST /v1/projects/*/locations/"
    "*/repositories/*:setIamPolicy artifactregistry.SetIamPolicyRequest",
    "artifactregistry.projects.locations.repositories.packages.tags.get GET /v1/projects/*/locati"
    "ons/*/repositories/*/packages/*/tags/* -",
    "cloudkms.projects.locations.keyRings.create POST /v1/projects/*/locations/*/keyRings cloudkm"
    "s.KeyRing keyRingId=s",
    "cloudkms.projects.locations.keyRings.get GET /v1/projects/*/locations/*/keyRings/* -",
    "cloudkms.projects.locations.keyRings.getIamPolicy GET /v1/projects/*/locations/*/keyRings/*:"
    "getIamPolicy - options.requestedPolicyVersion=i",
    "cloudkms.projects.locations.keyRings.list GET /v1/projects/*/locations/*/keyRings - filter=s"
    " orderBy=s pageSize=i pageToken=s",
    "cloudkms.projects.locations.keyRings.setIamPolicy POST /v1/projects/*/locations/*/keyRings/*"
    ":setIamPolicy cloudkms.SetIamPolicyRequest",
    "cloudkms.projects.locations.keyRings.cryptoKeys.create POST /v1/projects/*/locations/*/keyRi"
    "ngs/*/cryptoKeys cloudkms.CryptoKey cryptoKeyId=s skipInitialVersionCreation=b",
    "cloudkms.projects.locations.keyRings.cryptoKeys.decrypt POST /v1/projects/*/locations/*/keyR"
    "ings/*/cryptoKeys/*:decrypt cloudkms.DecryptRequest",
    "cloudkms.projects.locations.keyRings.cryptoKeys.encrypt POST /v1/projects/*/locations/*/keyR"
    "ings/*/cryptoKeys/*:encrypt cloudkms.EncryptRequest",
    "cloudkms.projects.locations.keyRings.cryptoKeys.get GET /v1/projects/*/locations/*/keyRings/"
    "*/cryptoKeys/* -",
    "cloudkms.projects.locations.keyRings.cryptoKeys.getIamPolicy GET /v1/projects/*/locations/*/"
    "keyRings/*/cryptoKeys/*:getIamPolicy - options.requestedPolicyVersion=i",
    "cloudkms.projects.locations.keyRings.cryptoKeys.list GET /v1/projects/*/locations/*/keyRings"
    "/*/cryptoKeys - filter=s orderBy=s pageSize=i pageToken=s versionView=(CRYPTO_KEY_VERSION_VI"
    "EW_UNSPECIFIED|FULL)",
    "cloudkms.projects.locations.keyRings.cryptoKeys.patch PATCH /v1/projects/*/locations/*/keyRi"
    "ngs/*/cryptoKeys/* cloudkms.CryptoKey updateMask=f",
    "cloudkms.projects.locations.keyRings.cryptoKeys.setIamPolicy POST /v1/projects/*/locations/*"
    "/keyRings/*/cryptoKeys/*:setIamPolicy cloudkms.SetIamPolicyRequest",
    "cloudkms.projects.locations.keyRings.cryptoKeys.cryptoKeyVersions.destroy POST /v1/projects/"
    "*/locations/*/keyRings/*/cryptoKeys/*/cryptoKeyVersions/*:destroy cloudkms.DestroyCryptoKeyV"
    "ersionRequest",
    "cloudkms.projects.locations.keyRings.cryptoKeys.cryptoKeyVersions.get GET /v1/projects/*/loc"
    "ations/*/keyRings/*/cryptoKeys/*/cryptoKeyVersions/* -",
    "cloudkms.projects.locations.keyRings.cryptoKeys.cryptoKeyVersions.list GET /v1/projects/*/lo"
    "cations/*/keyRings/*/cryptoKeys/*/cryptoKeyVersions - filter=s orderBy=s pageSize=i pageToke"
    "n=s view=(CRYPTO_KEY_VERSION_VIEW_UNSPECIFIED|FULL)",
    "cloudresourcemanager.operations.get GET /v3/operations/* -",
    "cloudresourcemanager.projects.create POST /v3/projects cloudresourcemanager.Project",
    "cloudresourcemanager.projects.get GET /v3/projects/* -",
    "cloudresourcemanager.projects.getIamPolicy POST /v3/projects/*:getIamPolicy cloudresourceman"
    "ager.GetIamPolicyRequest",
    "cloudresourcemanager.projects.search GET /v3/projects:search - pageSize=i pageToken=s query="
    "s",
    "cloudresourcemanager.projects.setIamPolicy POST /v3/projects/*:setIamPolicy cloudresourceman"
    "ager.SetIamPolicyRequest",
    "cloudresourcemanager.projects.testIamPermissions POST /v3/projects/*:testIamPermissions clou"
    "dresourcemanager.TestIamPermissionsRequest",
    "iam.projects.roles.create POST /v1/projects/*/roles iam.CreateRoleRequest",
    "iam.projects.roles.delete DELETE /v1/projects/*/roles/* - etag=y",
    "iam.projects.roles.get GET /v1/projects/*/roles/* -",
    "iam.projects.roles.patch PATCH /v1/projects/*/roles/* iam.Role updateMask=f",
    "iam.projects.roles.undelete POST /v1/projects/*/roles/*:undelete iam.UndeleteRoleRequest",
    "iam.projects.serviceAccounts.create POST /v1/projects/*/serviceAccounts iam.CreateServiceAcc"
    "ountRequest",
    "iam.projects.serviceAccounts.delete DELETE /v1/projects/*/serviceAccounts/* -",
    "iam.projects.serviceAccounts.get GET /v1/projects/*/serviceAccounts/* -",
    "iam.projects.serviceAccounts.getIamPolicy POST /v1/projects/*/serviceAccounts/*:getIamPolicy"
    " - options.requestedPolicyVersion=i",
    "iam.projects.serviceAccounts.list GET /v1/projects/*/serviceAccounts - pageSize=i pageToken="
    "s",
    "iam.projects.serviceAccounts.setIamPolicy POST /v1/projects/*/serviceAccounts/*:setIamPolicy"
    " iam.SetIamPolicyRequest",
    "iam.projects.serviceAccounts.undelete POST /v1/projects/*/serviceAccounts/*:undelete iam.Und"
    "eleteServiceAccountRequest",
    "iam.projects.serviceAccounts.keys.create POST /v1/projects/*/serviceAccounts/*/keys iam.Crea"
    "teServiceAccountKeyRequest",
    "iam.projects.serviceAccounts.keys.delete DELETE /v1/projects/*/serviceAccounts/*/keys/* -",
    "iam.projects.serviceAccounts.keys.get GET /v1/projects/*/serviceAccounts/*/keys/* - publicKe"
    "yType=(TYPE_NONE|TYPE_X509_PEM_FILE|TYPE_RAW_PUBLIC_KEY)",
    "iam.projects.serviceAccounts.keys.list GET /v1/projects/*/serviceAccounts/*/keys - keyTypes="
    "(KEY_TYPE_UNSPECIFIED|USER_MANAGED|SYSTEM_MANAGED)",
    "iamcredentials.projects.serviceAccounts.generateAccessToken POST /v1/projects/*/serviceAccou"
    "nts/*:generateAccessToken iamcredentials.GenerateAccessTokenRequest",
    "logging.entries.list POST /v2/entries:list logging.ListLogEntriesRequest",
    "run.projects.locations.jobs.create POST /v2/projects/*/locations/*/jobs run.GoogleCloudRunV2"
    "Job jobId=s validateOnly=b",
    "run.projects.locations.jobs.delete DELETE /v2/projects/*/locations/*/jobs/* - etag=s validat"
    "eOnly=b",
    "run.projects.locations.jobs.get GET /v2/projects/*/locations/*/jobs/* -",
    "run.projects.locations.jobs.getIamPolicy GET /v2/projects/*/locations/*/jobs/*:getIamPolicy "
    "- options.requestedPolicyVersion=i",
    "run.projects.locations.jobs.list GET /v2/projects/*/locations/*/jobs - pageSize=i pageToken="
    "s showDeleted=b",
    "run.projects.locations.jobs.patch PATCH /v2/projects/*/locations/*/jobs/* run.GoogleCloudRun"
    "V2Job allowMissing=b validateOnly=b",
    "run.projects.locations.jobs.run POST /v2/projects/*/locations/*/jobs/*:run run.GoogleCloudRu"
    "nV2RunJobRequest",
    "run.projects.locations.jobs.setIamPolicy POST /v2/projects/*/locations/*/jobs/*:setIamPolicy"
    " run.GoogleIamV1SetIamPolicyRequest",
    "run.projects.locations.jobs.executions.cancel POST /v2/projects/*/locations/*/jobs/*/executi"
    "ons/*:cancel run.GoogleCloudRunV2CancelExecutionRequest",
    "run.projects.locations.jobs.executions.delete DELETE /v2/projects/*/locations/*/jobs/*/execu"
    "tions/* - etag=s validateOnly=b",
    "run.projects.locations.jobs.executions.get GET /v2/projects/*/locations/*/jobs/*/executions/"
    "* -",
    "run.projects.locations.jobs.executions.list GET /v2/projects/*/locations/*/jobs/*/executions"
    " - pageSize=i pageToken=s showDeleted=b",
    "run.projects.locations.jobs.executions.tasks.get GET /v2/projects/*/locations/*/jobs/*/execu"
    "tions/*/tasks/* -",
    "run.projects.locations.jobs.executions.tasks.list GET /v2/projects/*/locations/*/jobs/*/exec"
    "utions/*/tasks - pageSize=i pageToken=s showDeleted=b",
    "run.projects.locations.operations.delete DELETE /v2/projects/*/locations/*/operations/* -",
    "run.projects.locations.operations.get GET /v2/projects/*/locations/*/operations/* -",
    "run.projects.locations.operations.list GET /v2/projects/*/locations/*/operations - filter=s "
    "pageSize=i pageToken=s",
    "run.projects.locations.operations.wait POST /v2/projects/*/locations/*/operations/*:wait run"
    ".GoogleLongrunningWaitOperationRequest",
    "run.projects.locations.services.create POST /v2/projects/*/locations/*/services run.GoogleCl"
    "oudRunV2Service serviceId=s validateOnly=b",
    "run.projects.locations.services.delete DELETE /v2/projects/*/locations/*/services/* - etag=s"
    " validateOnly=b",
    "run.projects.locations.services.get GET /v2/projects/*/locations/*/services/* -",
    "run.projects.locations.services.getIamPolicy GET /v2/projects/*/locations/*/services/*:getIa"
    "mPolicy - options.requestedPolicyVersion=i",
    "run.projects.locations.services.patch PATCH /v2/projects/*/locations/*/services/* run.Google"
    "CloudRunV2Service allowMissing=b updateMask=f validateOnly=b",
    "run.projects.locations.services.setIamPolicy POST /v2/projects/*/locations/*/services/*:setI"
    "amPolicy run.GoogleIamV1SetIamPolicyRequest",
    "secretmanager.projects.secrets.addVersion POST /v1/projects/*/secrets/*:addVersion secretman"
    "ager.AddSecretVersionRequest",
    "secretmanager.projects.secrets.create POST /v1/projects/*/secrets secretmanager.Secret secre"
    "tId=s",
    "secretmanager.projects.secrets.delete DELETE /v1/projects/*/secrets/* - etag=s",
    "secretmanager.projects.secrets.get GET /v1/projects/*/secrets/* -",
    "secretmanager.projects.secrets.getIamPolicy GET /v1/projects/*/secrets/*:getIamPolicy - opti"
    "ons.requestedPolicyVersion=i",
    "secretmanager.projects.secrets.list GET /v1/projects/*/secrets - filter=s pageSize=i pageTok"
    "en=s",
    "secretmanager.projects.secrets.setIamPolicy POST /v1/projects/*/secrets/*:setIamPolicy secre"
    "tmanager.SetIamPolicyRequest",
    "secretmanager.projects.secrets.versions.access GET /v1/projects/*/secrets/*/versions/*:acces"
    "s -",
    "secretmanager.projects.secrets.versions.destroy POST /v1/projects/*/secrets/*/versions/*:des"
    "troy secretmanager.DestroySecretVersionRequest",
    "secretmanager.projects.secrets.versions.disable POST /v1/projects/*/secrets/*/versions/*:dis"
    "able secretmanager.DisableSecretVersionRequest",
    "secretmanager.projects.secrets.versions.enable POST /v1/projects/*/secrets/*/versions/*:enab"
    "le secretmanager.EnableSecretVersionRequest",
    "secretmanager.projects.secrets.versions.get GET /v1/projects/*/secrets/*/versions/* -",
    "secretmanager.projects.secrets.versions.list GET /v1/projects/*/secrets/*/versions - filter="
    "s pageSize=i pageToken=s",
    "serviceusage.operations.get GET /v1/operations/* -",
    "serviceusage.services.batchEnable POST /v1/*/*/services:batchEnable serviceusage.BatchEnable"
    "ServicesRequest",
    "serviceusage.services.batchGet GET /v1/*/*/services:batchGet - names=s",
    "serviceusage.services.disable POST /v1/*/*/services/*:disable serviceusage.DisableServiceReq"
    "uest",
    "serviceusage.services.enable POST /v1/*/*/services/*:enable serviceusage.EnableServiceReques"
    "t",
    "serviceusage.services.get GET /v1/*/*/services/* -",
    "serviceusage.services.list GET /v1/*/*/services - filter=s pageSize=i pageToken=s",
    "storage.buckets.delete DELETE /storage/v1/b/* - ifMetagenerationMatch=l ifMetagenerationNotM"
    "atch=l userProject=s",
    "storage.buckets.get GET /storage/v1/b/* - generation=l ifMetagenerationMatch=l ifMetagenerat"
    "ionNotMatch=l projection=(full|noAcl) softDeleted=b userProject=s",
    "storage.buckets.getIamPolicy GET /storage/v1/b/*/iam - optionsRequestedPolicyVersion=i userP"
    "roject=s",
    "storage.buckets.insert POST /storage/v1/b storage.Bucket enableObjectRetention=b predefinedA"
    "cl=(authenticatedRead|private|projectPrivate|publicRead|publicReadWrite) predefinedDefaultOb"
    "jectAcl=(authenticatedRead|bucketOwnerFullControl|bucketOwnerRead|private|projectPrivate|pub"
    "licRead) project=s projection=(full|noAcl) userProject=s",
    "storage.buckets.list GET /storage/v1/b - maxResults=i pageToken=s prefix=s project=s project"
    "ion=(full|noAcl) softDeleted=b userProject=s",
    "storage.buckets.patch PATCH /storage/v1/b/* storage.Bucket ifMetagenerationMatch=l ifMetagen"
    "erationNotMatch=l predefinedAcl=(authenticatedRead|private|projectPrivate|publicRead|publicR"
    "eadWrite) predefinedDefaultObjectAcl=(authenticatedRead|bucketOwnerFullControl|bucketOwnerRe"
    "ad|private|projectPrivate|publicRead) projection=(full|noAcl) userProject=s",
    "storage.buckets.setIamPolicy PUT /storage/v1/b/*/iam storage.Policy userProject=s",
    "storage.buckets.testIamPermissions GET /storage/v1/b/*/iam/testPermissions - permissions=s u"
    "serProject=s",
    "storage.objects.compose POST /storage/v1/b/*/o/*/compose storage.ComposeRequest destinationP"
    "redefinedAcl=(authenticatedRead|bucketOwnerFullControl|bucketOwnerRead|private|projectPrivat"
    "e|publicRead) ifGenerationMatch=l ifMetagenerationMatch=l kmsKeyName=s userProject=s",
    "storage.objects.delete DELETE /storage/v1/b/*/o/* - generation=l ifGenerationMatch=l ifGener"
    "ationNotMatch=l ifMetagenerationMatch=l ifMetagenerationNotMatch=l userProject=s",
    "storage.objects.get GET /storage/v1/b/*/o/* - generation=l ifGenerationMatch=l ifGenerationN"
    "otMatch=l ifMetagenerationMatch=l ifMetagenerationNotMatch=l projection=(full|noAcl) restore"
    "Token=s softDeleted=b userProject=s",
    "storage.objects.insert POST /storage/v1/b/*/o storage.Object contentEncoding=s ifGenerationM"
    "atch=l ifGenerationNotMatch=l ifMetagenerationMatch=l ifMetagenerationNotMatch=l kmsKeyName="
    "s name=s predefinedAcl=(authenticatedRead|bucketOwnerFullControl|bucketOwnerRead|private|pro"
    "jectPrivate|publicRead) projection=(full|noAcl) userProject=s",
    "storage.objects.list GET /storage/v1/b/*/o - delimiter=s endOffset=s includeFoldersAsPrefixe"
    "s=b includeTrailingDelimiter=b matchGlob=s maxResults=i pageToken=s prefix=s projection=(ful"
    "l|noAcl) softDeleted=b startOffset=s userProject=s versions=b",
    "storage.objects.patch PATCH /storage/v1/b/*/o/* storage.Object generation=l ifGenerationMatc"
    "h=l ifGenerationNotMatch=l ifMetagenerationMatch=l ifMetagenerationNotMatch=l overrideUnlock"
    "edRetention=b predefinedAcl=(authenticatedRead|bucketOwnerFullControl|bucketOwnerRead|privat"
    "e|projectPrivate|publicRead) projection=(full|noAcl) userProject=s",
    NULL,
};

const char *const google_schemas[] = {
    "artifactregistry.Repository cleanupPolicies={CleanupPolicy} cleanupPolicyDryRun=b createTime"
    "=!t description=s disallowUnspecifiedMode=b dockerConfig=DockerRepositoryConfig format=(FORM"
    "AT_UNSPECIFIED|DOCKER|MAVEN|NPM|APT|YUM|GOOGET|PYTHON|KFP|GO|GENERIC) kmsKeyName=s labels={s"
    "} mavenConfig=MavenRepositoryConfig mode=(MODE_UNSPECIFIED|STANDARD_REPOSITORY|VIRTUAL_REPOS"
    "ITORY|REMOTE_REPOSITORY|AOSS_REPOSITORY|ASSURED_OSS_REPOSITORY) name=s registryUri=!s remote"
    "RepositoryConfig=RemoteRepositoryConfig satisfiesPzi=!b satisfiesPzs=!b sizeBytes=!l updateT"
    "ime=!t virtualRepositoryConfig=VirtualRepositoryConfig vulnerabilityScanningConfig=Vulnerabi"
    "lityScanningConfig",
    "artifactregistry.CleanupPolicy action=(ACTION_UNSPECIFIED|DELETE|KEEP) condition=CleanupPoli"
    "cyCondition id=s mostRecentVersions=CleanupPolicyMostRecentVersions",
    "artifactregistry.CleanupPolicyCondition newerThan=d olderThan=d packageNamePrefixes=[s] tagP"
    "refixes=[s] tagState=(TAG_STATE_UNSPECIFIED|TAGGED|UNTAGGED|ANY) versionNamePrefixes=[s]",
    "artifactregistry.CleanupPolicyMostRecentVersions keepCount=i packageNamePrefixes=[s]",
    "artifactregistry.DockerRepositoryConfig immutableTags=b",
    "artifactregistry.MavenRepositoryConfig allowSnapshotOverwrites=b versionPolicy=(VERSION_POLI"
    "CY_UNSPECIFIED|RELEASE|SNAPSHOT)",
    "artifactregistry.RemoteRepositoryConfig aptRepository=AptRepository commonRepository=CommonR"
    "emoteRepository description=s disableUpstreamValidation=b dockerRepository=DockerRepository "
    "mavenRepository=MavenRepository npmRepository=NpmRepository pythonRepository=PythonRepositor"
    "y upstreamCredentials=UpstreamCredentials yumRepository=YumRepository",
    "artifactregistry.AptRepository customRepository=GoogleDevtoolsArtifactregistryV1RemoteReposi"
    "toryConfigAptRepositoryCustomRepository publicRepository=GoogleDevtoolsArtifactregistryV1Rem"
    "oteRepositoryConfigAptRepositoryPublicRepository",
    "artifactregistry.GoogleDevtoolsArtifactregistryV1RemoteRepositoryConfigAptRepositoryCustomRe"
    "pository uri=s",
    "artifactregistry.GoogleDevtoolsArtifactregistryV1RemoteRepositoryConfigAptRepositoryPublicRe"
    "pository repositoryBase=(REPOSITORY_BASE_UNSPECIFIED|DEBIAN|UBUNTU|DEBIAN_SNAPSHOT) reposito"
    "ryPath=s",
    "artifactregistry.CommonRemoteRepository uri=s",
    "artifactregistry.DockerRepository customRepository=GoogleDevtoolsArtifactregistryV1RemoteRep"
    "ositoryConfigDockerRepositoryCustomRepository publicRepository=(PUBLIC_REPOSITORY_UNSPECIFIE"
    "D|DOCKER_HUB)",
    "artifactregistry.GoogleDevtoolsArtifactregistryV1RemoteRepositoryConfigDockerRepositoryCusto"
    "mRepository uri=s",
    "artifactregistry.MavenRepository customRepository=GoogleDevtoolsArtifactregistryV1RemoteRepo"
    "sitoryConfigMavenRepositoryCustomRepository publicRepository=(PUBLIC_REPOSITORY_UNSPECIFIED|"
    "MAVEN_CENTRAL)",
    "artifactregistry.GoogleDevtoolsArtifactregistryV1RemoteRepositoryConfigMavenRepositoryCustom"
    "Repository uri=s",
    "artifactregistry.NpmRepository customRepository=GoogleDevtoolsArtifactregistryV1RemoteReposi"
    "toryConfigNpmRepositoryCustomRepository publicRepository=(PUBLIC_REPOSITORY_UNSPECIFIED|NPMJ"
    "S)",
    "artifactregistry.GoogleDevtoolsArtifactregistryV1RemoteRepositoryConfigNpmRepositoryCustomRe"
    "pository uri=s",
    "artifactregistry.PythonRepository customRepository=GoogleDevtoolsArtifactregistryV1RemoteRep"
    "ositoryConfigPythonRepositoryCustomRepository publicRepository=(PUBLIC_REPOSITORY_UNSPECIFIE"
    "D|PYPI)",
    "artifactregistry.GoogleDevtoolsArtifactregistryV1RemoteRepositoryConfigPythonRepositoryCusto"
    "mRepository uri=s",
    "artifactregistry.UpstreamCredentials usernamePasswordCredentials=UsernamePasswordCredentials",
    "artifactregistry.UsernamePasswordCredentials passwordSecretVersion=s username=s",
    "artifactregistry.YumRepository customRepository=GoogleDevtoolsArtifactregistryV1RemoteReposi"
    "toryConfigYumRepositoryCustomRepository publicRepository=GoogleDevtoolsArtifactregistryV1Rem"
    "oteRepositoryConfigYumRepositoryPublicRepository",
    "artifactregistry.GoogleDevtoolsArtifactregistryV1RemoteRepositoryConfigYumRepositoryCustomRe"
    "pository uri=s",
    "artifactregistry.GoogleDevtoolsArtifactregistryV1RemoteRepositoryConfigYumRepositoryPublicRe"
    "pository repositoryBase=(REPOSITORY_BASE_UNSPECIFIED|CENTOS|CENTOS_DEBUG|CENTOS_VAULT|CENTOS"
    "_STREAM|ROCKY|EPEL) repositoryPath=s",
    "artifactregistry.VirtualRepositoryConfig upstreamPolicies=[UpstreamPolicy]",
    "artifactregistry.UpstreamPolicy id=s priority=i repository=s",
    "artifactregistry.VulnerabilityScanningConfig enablementConfig=(ENABLEMENT_CONFIG_UNSPECIFIED"
    "|INHERITED|DISABLED) enablementState=!(ENABLEMENT_STATE_UNSPECIFIED|SCANNING_UNSUPPORTED|SCA"
    "NNING_DISABLED|SCANNING_ACTIVE) enablementStateReason=!s lastEnableTime=!t",
    "artifactregistry.SetIamPolicyRequest policy=Policy",
    "artifactregistry.Policy bindings=[Binding] etag=y version=i",
    "artifactregistry.Binding condition=Expr members=[s] role=s",
    "artifactregistry.Expr description=s expression=s location=s title=s",
    "cloudkms.KeyRing createTime=!t name=!s",
    "cloudkms.SetIamPolicyRequest policy=Policy updateMask=f",
    "cloudkms.Policy auditConfigs=[AuditConfig] bindings=[Binding] etag=y version=i",
    "cloudkms.AuditConfig auditLogConfigs=[AuditLogConfig] service=s",
    "cloudkms.AuditLogConfig exemptedMembers=[s] logType=(LOG_TYPE_UNSPECIFIED|ADMIN_READ|DATA_WR"
    "ITE|DATA_READ)",
    "cloudkms.Binding condition=Expr members=[s] role=s",
    "cloudkms.Expr description=s expression=s location=s title=s",
    "cloudkms.CryptoKey createTime=!t cryptoKeyBackend=s destroyScheduledDuration=d importOnly=b "
    "keyAccessJustificationsPolicy=KeyAccessJustificationsPolicy labels={s} name=!s nextRotationT"
    "ime=t primary=!CryptoKeyVersion purpose=(CRYPTO_KEY_PURPOSE_UNSPECIFIED|ENCRYPT_DECRYPT|ASYM"
    "METRIC_SIGN|ASYMMETRIC_DECRYPT|RAW_ENCRYPT_DECRYPT|MAC) rotationPeriod=d versionTemplate=Cry"
    "ptoKeyVersionTemplate",
    "cloudkms.KeyAccessJustificationsPolicy allowedAccessReasons=[(REASON_UNSPECIFIED|CUSTOMER_IN"
    "ITIATED_SUPPORT|GOOGLE_INITIATED_SERVICE|THIRD_PARTY_DATA_REQUEST|GOOGLE_INITIATED_REVIEW|CU"
    "STOMER_INITIATED_ACCESS|GOOGLE_INITIATED_SYSTEM_OPERATION|REASON_NOT_EXPECTED|MODIFIED_CUSTO"
    "MER_INITIATED_ACCESS|MODIFIED_GOOGLE_INITIATED_SYSTEM_OPERATION|GOOGLE_RESPONSE_TO_PRODUCTIO"
    "N_ALERT|CUSTOMER_AUTHORIZED_WORKFLOW_SERVICING)]",
    "cloudkms.CryptoKeyVersion algorithm=!(CRYPTO_KEY_VERSION_ALGORITHM_UNSPECIFIED|GOOGLE_SYMMET"
    "RIC_ENCRYPTION|AES_128_GCM|AES_256_GCM|AES_128_CBC|AES_256_CBC|AES_128_CTR|AES_256_CTR|RSA_S"
    "IGN_PSS_2048_SHA256|RSA_SIGN_PSS_3072_SHA256|RSA_SIGN_PSS_4096_SHA256|RSA_SIGN_PSS_4096_SHA5"
    "12|RSA_SIGN_PKCS1_2048_SHA256|RSA_SIGN_PKCS1_3072_SHA256|RSA_SIGN_PKCS1_4096_SHA256|RSA_SIGN"
    "_PKCS1_4096_SHA512|RSA_SIGN_RAW_PKCS1_2048|RSA_SIGN_RAW_PKCS1_3072|RSA_SIGN_RAW_PKCS1_4096|R"
    "SA_DECRYPT_OAEP_2048_SHA256|RSA_DECRYPT_OAEP_3072_SHA256|RSA_DECRYPT_OAEP_4096_SHA256|RSA_DE"
    "CRYPT_OAEP_4096_SHA512|RSA_DECRYPT_OAEP_2048_SHA1|RSA_DECRYPT_OAEP_3072_SHA1|RSA_DECRYPT_OAE"
    "P_4096_SHA1|EC_SIGN_P256_SHA256|EC_SIGN_P384_SHA384|EC_SIGN_SECP256K1_SHA256|EC_SIGN_ED25519"
    "|HMAC_SHA256|HMAC_SHA1|HMAC_SHA384|HMAC_SHA512|HMAC_SHA224|EXTERNAL_SYMMETRIC_ENCRYPTION|PQ_"
    "SIGN_ML_DSA_65|PQ_SIGN_SLH_DSA_SHA2_128S) attestation=!KeyOperationAttestation createTime=!t"
    " destroyEventTime=!t destroyTime=!t externalDestructionFailureReason=!s externalProtectionLe"
    "velOptions=ExternalProtectionLevelOptions generateTime=!t generationFailureReason=!s importF"
    "ailureReason=!s importJob=!s importTime=!t name=!s protectionLevel=!(PROTECTION_LEVEL_UNSPEC"
    "IFIED|SOFTWARE|HSM|EXTERNAL|EXTERNAL_VPC) reimportEligible=!b state=(CRYPTO_KEY_VERSION_STAT"
    "E_UNSPECIFIED|PENDING_GENERATION|ENABLED|DISABLED|DESTROYED|DESTROY_SCHEDULED|PENDING_IMPORT"
    "|IMPORT_FAILED|GENERATION_FAILED|PENDING_EXTERNAL_DESTRUCTION|EXTERNAL_DESTRUCTION_FAILED)",
    "cloudkms.KeyOperationAttestation certChains=!CertificateChains content=!y format=!(ATTESTATI"
    "ON_FORMAT_UNSPECIFIED|CAVIUM_V1_COMPRESSED|CAVIUM_V2_COMPRESSED)",
    "cloudkms.CertificateChains caviumCerts=[s] googleCardCerts=[s] googlePartitionCerts=[s]",
    "cloudkms.ExternalProtectionLevelOptions ekmConnectionKeyPath=s externalKeyUri=s",
    "cloudkms.CryptoKeyVersionTemplate algorithm=(CRYPTO_KEY_VERSION_ALGORITHM_UNSPECIFIED|GOOGLE"
    "_SYMMETRIC_ENCRYPTION|AES_128_GCM|AES_256_GCM|AES_128_CBC|AES_256_CBC|AES_128_CTR|AES_256_CT"
    "R|RSA_SIGN_PSS_2048_SHA256|RSA_SIGN_PSS_3072_SHA256|RSA_SIGN_PSS_4096_SHA256|RSA_SIGN_PSS_40"
    "96_SHA512|RSA_SIGN_PKCS1_2048_SHA256|RSA_SIGN_PKCS1_3072_SHA256|RSA_SIGN_PKCS1_4096_SHA256|R"
    "SA_SIGN_PKCS1_4096_SHA512|RSA_SIGN_RAW_PKCS1_2048|RSA_SIGN_RAW_PKCS1_3072|RSA_SIGN_RAW_PKCS1"
    "_4096|RSA_DECRYPT_OAEP_2048_SHA256|RSA_DECRYPT_OAEP_3072_SHA256|RSA_DECRYPT_OAEP_4096_SHA256"
    "|RSA_DECRYPT_OAEP_4096_SHA512|RSA_DECRYPT_OAEP_2048_SHA1|RSA_DECRYPT_OAEP_3072_SHA1|RSA_DECR"
    "YPT_OAEP_4096_SHA1|EC_SIGN_P256_SHA256|EC_SIGN_P384_SHA384|EC_SIGN_SECP256K1_SHA256|EC_SIGN_"
    "ED25519|HMAC_SHA256|HMAC_SHA1|HMAC_SHA384|HMAC_SHA512|HMAC_SHA224|EXTERNAL_SYMMETRIC_ENCRYPT"
    "ION|PQ_SIGN_ML_DSA_65|PQ_SIGN_SLH_DSA_SHA2_128S) protectionLevel=(PROTECTION_LEVEL_UNSPECIFI"
    "ED|SOFTWARE|HSM|EXTERNAL|EXTERNAL_VPC)",
    "cloudkms.DecryptRequest additionalAuthenticatedData=y additionalAuthenticatedDataCrc32c=l ci"
    "phertext=y ciphertextCrc32c=l",
    "cloudkms.EncryptRequest additionalAuthenticatedData=y additionalAuthenticatedDataCrc32c=l pl"
    "aintext=y plaintextCrc32c=l",
    "cloudkms.DestroyCryptoKeyVersionRequest",
    "cloudresourcemanager.Project createTime=!t deleteTime=!t displayName=s etag=!s labels={s} na"
    "me=!s parent=s projectId=s state=!(STATE_UNSPECIFIED|ACTIVE|DELETE_REQUESTED) tags={s} updat"
    "eTime=!t",
    "cloudresourcemanager.GetIamPolicyRequest options=GetPolicyOptions",
    "cloudresourcemanager.GetPolicyOptions requestedPolicyVersion=i",
    "cloudresourcemanager.SetIamPolicyRequest policy=Policy updateMask=f",
    "cloudresourcemanager.Policy auditConfigs=[AuditConfig] bindings=[Binding] etag=y version=i",
    "cloudresourcemanager.AuditConfig auditLogConfigs=[AuditLogConfig] service=s",
    "cloudresourcemanager.AuditLogConfig exemptedMembers=[s] logType=(LOG_TYPE_UNSPECIFIED|ADMIN_"
    "READ|DATA_WRITE|DATA_READ)",
    "cloudresourcemanager.Binding condition=Expr members=[s] role=s",
    "cloudresourcemanager.Expr description=s expression=s location=s title=s",
    "cloudresourcemanager.TestIamPermissionsRequest permissions=[s]",
    "iam.CreateRoleRequest role=Role roleId=s",
    "iam.Role deleted=b description=s etag=y includedPermissions=[s] name=s stage=(ALPHA|BETA|GA|"
    "DEPRECATED|DISABLED|EAP) title=s",
    "iam.UndeleteRoleRequest etag=y",
    "iam.CreateServiceAccountRequest accountId=s serviceAccount=ServiceAccount",
    "iam.ServiceAccount description=s disabled=!b displayName=s email=!s etag=y name=s oauth2Clie"
    "ntId=!s projectId=!s uniqueId=!s",
    "iam.SetIamPolicyRequest policy=Policy updateMask=f",
    "iam.Policy auditConfigs=[AuditConfig] bindings=[Binding] etag=y version=i",
    "iam.AuditConfig auditLogConfigs=[AuditLogConfig] service=s",
    "iam.AuditLogConfig exemptedMembers=[s] logType=(LOG_TYPE_UNSPECIFIED|ADMIN_READ|DATA_WRITE|D"
    "ATA_READ)",
    "iam.Binding condition=Expr members=[s] role=s",
    "iam.Expr description=s expression=s location=s title=s",
    "iam.UndeleteServiceAccountRequest",
    "iam.CreateServiceAccountKeyRequest keyAlgorithm=(KEY_ALG_UNSPECIFIED|KEY_ALG_RSA_1024|KEY_AL"
    "G_RSA_2048) privateKeyType=(TYPE_UNSPECIFIED|TYPE_PKCS12_FILE|TYPE_GOOGLE_CREDENTIALS_FILE)",
    "iamcredentials.GenerateAccessTokenRequest delegates=[s] lifetime=d scope=[s]",
    "logging.ListLogEntriesRequest filter=s orderBy=s pageSize=i pageToken=s projectIds=[s] resou"
    "rceNames=[s]",
    "run.GoogleCloudRunV2Job annotations={s} binaryAuthorization=GoogleCloudRunV2BinaryAuthorizat"
    "ion client=s clientVersion=s conditions=![GoogleCloudRunV2Condition] createTime=!t creator=!"
    "s deleteTime=!t etag=!s executionCount=!i expireTime=!t generation=!l labels={s} lastModifie"
    "r=!s latestCreatedExecution=!GoogleCloudRunV2ExecutionReference launchStage=(LAUNCH_STAGE_UN"
    "SPECIFIED|UNIMPLEMENTED|PRELAUNCH|EARLY_ACCESS|ALPHA|BETA|GA|DEPRECATED) name=s observedGene"
    "ration=!l reconciling=!b runExecutionToken=s satisfiesPzs=!b startExecutionToken=s template="
    "GoogleCloudRunV2ExecutionTemplate terminalCondition=!GoogleCloudRunV2Condition uid=!s update"
    "Time=!t",
    "run.GoogleCloudRunV2BinaryAuthorization breakglassJustification=s policy=s useDefault=b",
    "run.GoogleCloudRunV2Condition executionReason=!(EXECUTION_REASON_UNDEFINED|JOB_STATUS_SERVIC"
    "E_POLLING_ERROR|NON_ZERO_EXIT_CODE|CANCELLED|CANCELLING|DELETED) lastTransitionTime=t messag"
    "e=s reason=!(COMMON_REASON_UNDEFINED|UNKNOWN|REVISION_FAILED|PROGRESS_DEADLINE_EXCEEDED|CONT"
    "AINER_MISSING|CONTAINER_PERMISSION_DENIED|CONTAINER_IMAGE_UNAUTHORIZED|CONTAINER_IMAGE_AUTHO"
    "RIZATION_CHECK_FAILED|ENCRYPTION_KEY_PERMISSION_DENIED|ENCRYPTION_KEY_CHECK_FAILED|SECRETS_A"
    "CCESS_CHECK_FAILED|WAITING_FOR_OPERATION|IMMEDIATE_RETRY|POSTPONED_RETRY|INTERNAL) revisionR"
    "eason=!(REVISION_REASON_UNDEFINED|PENDING|RESERVE|RETIRED|RETIRING|RECREATING|HEALTH_CHECK_C"
    "ONTAINER_ERROR|CUSTOMIZED_PATH_RESPONSE_PENDING|MIN_INSTANCES_NOT_PROVISIONED|ACTIVE_REVISIO"
    "N_LIMIT_REACHED|NO_DEPLOYMENT|HEALTH_CHECK_SKIPPED|MIN_INSTANCES_WARMING) severity=(SEVERITY"
    "_UNSPECIFIED|ERROR|WARNING|INFO) state=(STATE_UNSPECIFIED|CONDITION_PENDING|CONDITION_RECONC"
    "ILING|CONDITION_FAILED|CONDITION_SUCCEEDED) type=s",
    "run.GoogleCloudRunV2ExecutionReference completionStatus=(COMPLETION_STATUS_UNSPECIFIED|EXECU"
    "TION_SUCCEEDED|EXECUTION_FAILED|EXECUTION_RUNNING|EXECUTION_PENDING|EXECUTION_CANCELLED) com"
    "pletionTime=t createTime=t deleteTime=t name=s",
    "run.GoogleCloudRunV2ExecutionTemplate annotations={s} labels={s} parallelism=i taskCount=i t"
    "emplate=GoogleCloudRunV2TaskTemplate",
    "run.GoogleCloudRunV2TaskTemplate containers=[GoogleCloudRunV2Container] encryptionKey=s exec"
    "utionEnvironment=(EXECUTION_ENVIRONMENT_UNSPECIFIED|EXECUTION_ENVIRONMENT_GEN1|EXECUTION_ENV"
    "IRONMENT_GEN2) maxRetries=i nodeSelector=GoogleCloudRunV2NodeSelector serviceAccount=s timeo"
    "ut=d volumes=[GoogleCloudRunV2Volume] vpcAccess=GoogleCloudRunV2VpcAccess",
    "run.GoogleCloudRunV2Container args=[s] baseImageUri=s buildInfo=!GoogleCloudRunV2BuildInfo c"
    "ommand=[s] dependsOn=[s] env=[GoogleCloudRunV2EnvVar] image=s livenessProbe=GoogleCloudRunV2"
    "Probe name=s ports=[GoogleCloudRunV2ContainerPort] resources=GoogleCloudRunV2ResourceRequire"
    "ments startupProbe=GoogleCloudRunV2Probe volumeMounts=[GoogleCloudRunV2VolumeMount] workingD"
    "ir=s",
    "run.GoogleCloudRunV2BuildInfo functionTarget=!s sourceLocation=!s",
    "run.GoogleCloudRunV2EnvVar name=s value=s valueSource=GoogleCloudRunV2EnvVarSource",
    "run.GoogleCloudRunV2EnvVarSource secretKeyRef=GoogleCloudRunV2SecretKeySelector",
    "run.GoogleCloudRunV2SecretKeySelector secret=s version=s",
    "run.GoogleCloudRunV2Probe failureThreshold=i grpc=GoogleCloudRunV2GRPCAction httpGet=GoogleC"
    "loudRunV2HTTPGetAction initialDelaySeconds=i periodSeconds=i tcpSocket=GoogleCloudRunV2TCPSo"
    "cketAction timeoutSeconds=i",
    "run.GoogleCloudRunV2GRPCAction port=i service=s",
    "run.GoogleCloudRunV2HTTPGetAction httpHeaders=[GoogleCloudRunV2HTTPHeader] path=s port=i",
    "run.GoogleCloudRunV2HTTPHeader name=s value=s",
    "run.GoogleCloudRunV2TCPSocketAction port=i",
    "run.GoogleCloudRunV2ContainerPort containerPort=i name=s",
    "run.GoogleCloudRunV2ResourceRequirements cpuIdle=b limits={s} startupCpuBoost=b",
    "run.GoogleCloudRunV2VolumeMount mountPath=s name=s",
    "run.GoogleCloudRunV2NodeSelector accelerator=s",
    "run.GoogleCloudRunV2Volume cloudSqlInstance=GoogleCloudRunV2CloudSqlInstance emptyDir=Google"
    "CloudRunV2EmptyDirVolumeSource gcs=GoogleCloudRunV2GCSVolumeSource name=s nfs=GoogleCloudRun"
    "V2NFSVolumeSource secret=GoogleCloudRunV2SecretVolumeSource",
    "run.GoogleCloudRunV2CloudSqlInstance instances=[s]",
    "run.GoogleCloudRunV2EmptyDirVolumeSource medium=(MEDIUM_UNSPECIFIED|MEMORY) sizeLimit=s",
    "run.GoogleCloudRunV2GCSVolumeSource bucket=s mountOptions=[s] readOnly=b",
    "run.GoogleCloudRunV2NFSVolumeSource path=s readOnly=b server=s",
    "run.GoogleCloudRunV2SecretVolumeSource defaultMode=i items=[GoogleCloudRunV2VersionToPath] s"
    "ecret=s",
    "run.GoogleCloudRunV2VersionToPath mode=i path=s version=s",
    "run.GoogleCloudRunV2VpcAccess connector=s egress=(VPC_EGRESS_UNSPECIFIED|ALL_TRAFFIC|PRIVATE"
    "_RANGES_ONLY) networkInterfaces=[GoogleCloudRunV2NetworkInterface]",
    "run.GoogleCloudRunV2NetworkInterface network=s subnetwork=s tags=[s]",
    "run.GoogleCloudRunV2RunJobRequest etag=s overrides=GoogleCloudRunV2Overrides validateOnly=b",
    "run.GoogleCloudRunV2Overrides containerOverrides=[GoogleCloudRunV2ContainerOverride] taskCou"
    "nt=i timeout=d",
    "run.GoogleCloudRunV2ContainerOverride args=[s] clearArgs=b env=[GoogleCloudRunV2EnvVar] name"
    "=s",
    "run.GoogleIamV1SetIamPolicyRequest policy=GoogleIamV1Policy updateMask=f",
    "run.GoogleIamV1Policy auditConfigs=[GoogleIamV1AuditConfig] bindings=[GoogleIamV1Binding] et"
    "ag=y version=i",
    "run.GoogleIamV1AuditConfig auditLogConfigs=[GoogleIamV1AuditLogConfig] service=s",
    "run.GoogleIamV1AuditLogConfig exemptedMembers=[s] logType=(LOG_TYPE_UNSPECIFIED|ADMIN_READ|D"
    "ATA_WRITE|DATA_READ)",
    "run.GoogleIamV1Binding condition=GoogleTypeExpr members=[s] role=s",
    "run.GoogleTypeExpr description=s expression=s location=s title=s",
    "run.GoogleCloudRunV2CancelExecutionRequest etag=s validateOnly=b",
    "run.GoogleLongrunningWaitOperationRequest timeout=d",
    "run.GoogleCloudRunV2Service annotations={s} binaryAuthorization=GoogleCloudRunV2BinaryAuthor"
    "ization buildConfig=GoogleCloudRunV2BuildConfig client=s clientVersion=s conditions=![Google"
    "CloudRunV2Condition] createTime=!t creator=!s customAudiences=[s] defaultUriDisabled=b delet"
    "eTime=!t description=s etag=!s expireTime=!t generation=!l ingress=(INGRESS_TRAFFIC_UNSPECIF"
    "IED|INGRESS_TRAFFIC_ALL|INGRESS_TRAFFIC_INTERNAL_ONLY|INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    "|INGRESS_TRAFFIC_NONE) invokerIamDisabled=b labels={s} lastModifier=!s latestCreatedRevision"
    "=!s latestReadyRevision=!s launchStage=(LAUNCH_STAGE_UNSPECIFIED|UNIMPLEMENTED|PRELAUNCH|EAR"
    "LY_ACCESS|ALPHA|BETA|GA|DEPRECATED) name=s observedGeneration=!l reconciling=!b satisfiesPzs"
    "=!b scaling=GoogleCloudRunV2ServiceScaling template=GoogleCloudRunV2RevisionTemplate termina"
    "lCondition=!GoogleCloudRunV2Condition traffic=[GoogleCloudRunV2TrafficTarget] trafficStatuse"
    "s=![GoogleCloudRunV2TrafficTargetStatus] uid=!s updateTime=!t uri=!s urls=![s]",
    "run.GoogleCloudRunV2BuildConfig baseImage=s enableAutomaticUpdates=b environmentVariables={s"
    "} functionTarget=s imageUri=s name=!s serviceAccount=s sourceLocation=s workerPool=s",
    "run.GoogleCloudRunV2ServiceScaling manualInstanceCount=i maxInstanceCount=i minInstanceCount"
    "=i scalingMode=(SCALING_MODE_UNSPECIFIED|AUTOMATIC|MANUAL)",
    "run.GoogleCloudRunV2RevisionTemplate annotations={s} containers=[GoogleCloudRunV2Container] "
    "encryptionKey=s encryptionKeyRevocationAction=(ENCRYPTION_KEY_REVOCATION_ACTION_UNSPECIFIED|"
    "PREVENT_NEW|SHUTDOWN) encryptionKeyShutdownDuration=d executionEnvironment=(EXECUTION_ENVIRO"
    "NMENT_UNSPECIFIED|EXECUTION_ENVIRONMENT_GEN1|EXECUTION_ENVIRONMENT_GEN2) gpuZonalRedundancyD"
    "isabled=b healthCheckDisabled=b labels={s} maxInstanceRequestConcurrency=i nodeSelector=Goog"
    "leCloudRunV2NodeSelector revision=s scaling=GoogleCloudRunV2RevisionScaling serviceAccount=s"
    " serviceMesh=GoogleCloudRunV2ServiceMesh sessionAffinity=b timeout=d volumes=[GoogleCloudRun"
    "V2Volume] vpcAccess=GoogleCloudRunV2VpcAccess",
    "run.GoogleCloudRunV2RevisionScaling maxInstanceCount=i minInstanceCount=i",
    "run.GoogleCloudRunV2ServiceMesh mesh=s",
    "run.GoogleCloudRunV2TrafficTarget percent=i revision=s tag=s type=(TRAFFIC_TARGET_ALLOCATION"
    "_TYPE_UNSPECIFIED|TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST|TRAFFIC_TARGET_ALLOCATION_TYPE_REVIS"
    "ION)",
    "run.GoogleCloudRunV2TrafficTargetStatus percent=i revision=s tag=s type=(TRAFFIC_TARGET_ALLO"
    "CATION_TYPE_UNSPECIFIED|TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST|TRAFFIC_TARGET_ALLOCATION_TYPE"
    "_REVISION) uri=s",
    "secretmanager.AddSecretVersionRequest payload=SecretPayload",
    "secretmanager.SecretPayload data=y dataCrc32c=l",
    "secretmanager.Secret annotations={s} createTime=!t customerManagedEncryption=CustomerManaged"
    "Encryption etag=s expireTime=t labels={s} name=!s replication=Replication rotation=Rotation "
    "topics=[Topic] ttl=d versionAliases={l} versionDestroyTtl=d",
    "secretmanager.CustomerManagedEncryption kmsKeyName=s",
    "secretmanager.Replication automatic=Automatic userManaged=UserManaged",
    "secretmanager.Automatic customerManagedEncryption=CustomerManagedEncryption",
    "secretmanager.UserManaged replicas=[Replica]",
    "secretmanager.Replica customerManagedEncryption=CustomerManagedEncryption location=s",
    "secretmanager.Rotation nextRotationTime=t rotationPeriod=d",
    "secretmanager.Topic name=s",
    "secretmanager.SetIamPolicyRequest policy=Policy updateMask=f",
    "secretmanager.Policy auditConfigs=[AuditConfig] bindings=[Binding] etag=y version=i",
    "secretmanager.AuditConfig auditLogConfigs=[AuditLogConfig] service=s",
    "secretmanager.AuditLogConfig exemptedMembers=[s] logType=(LOG_TYPE_UNSPECIFIED|ADMIN_READ|DA"
    "TA_WRITE|DATA_READ)",
    "secretmanager.Binding condition=Expr members=[s] role=s",
    "secretmanager.Expr description=s expression=s location=s title=s",
    "secretmanager.DestroySecretVersionRequest etag=s",
    "secretmanager.DisableSecretVersionRequest etag=s",
    "secretmanager.EnableSecretVersionRequest etag=s",
    "serviceusage.BatchEnableServicesRequest serviceIds=[s]",
    "serviceusage.DisableServiceRequest checkIfServiceHasUsage=(CHECK_IF_SERVICE_HAS_USAGE_UNSPEC"
    "IFIED|SKIP|CHECK) disableDependentServices=b",
    "serviceusage.EnableServiceRequest",
    "storage.Bucket acl=[BucketAccessControl] autoclass=Bucket.autoclass billing=Bucket.billing c"
    "ors=[Bucket.cors] customPlacementConfig=Bucket.customPlacementConfig defaultEventBasedHold=b"
    " defaultObjectAcl=[ObjectAccessControl] encryption=Bucket.encryption etag=s generation=l har"
    "dDeleteTime=t hierarchicalNamespace=Bucket.hierarchicalNamespace iamConfiguration=Bucket.iam"
    "Configuration id=s ipFilter=Bucket.ipFilter kind=s labels={s} lifecycle=Bucket.lifecycle loc"
    "ation=s locationType=s logging=Bucket.logging metageneration=l name=s objectRetention=Bucket"
    ".objectRetention owner=Bucket.owner projectNumber=l retentionPolicy=Bucket.retentionPolicy r"
    "po=s satisfiesPZI=b satisfiesPZS=b selfLink=s softDeletePolicy=Bucket.softDeletePolicy softD"
    "eleteTime=t storageClass=s timeCreated=t updated=t versioning=Bucket.versioning website=Buck"
    "et.website",
    "storage.BucketAccessControl bucket=s domain=s email=s entity=s entityId=s etag=s id=s kind=s"
    " projectTeam=BucketAccessControl.projectTeam role=s selfLink=s",
    "storage.BucketAccessControl.projectTeam projectNumber=s team=s",
    "storage.Bucket.autoclass enabled=b terminalStorageClass=s terminalStorageClassUpdateTime=t t"
    "oggleTime=t",
    "storage.Bucket.billing requesterPays=b",
    "storage.Bucket.cors maxAgeSeconds=i method=[s] origin=[s] responseHeader=[s]",
    "storage.Bucket.customPlacementConfig dataLocations=[s]",
    "storage.ObjectAccessControl bucket=s domain=s email=s entity=s entityId=s etag=s generation="
    "l id=s kind=s object=s projectTeam=ObjectAccessControl.projectTeam role=s selfLink=s",
    "storage.ObjectAccessControl.projectTeam projectNumber=s team=s",
    "storage.Bucket.encryption defaultKmsKeyName=s",
    "storage.Bucket.hierarchicalNamespace enabled=b",
    "storage.Bucket.iamConfiguration bucketPolicyOnly=Bucket.iamConfiguration.bucketPolicyOnly pu"
    "blicAccessPrevention=s uniformBucketLevelAccess=Bucket.iamConfiguration.uniformBucketLevelAc"
    "cess",
    "storage.Bucket.iamConfiguration.bucketPolicyOnly enabled=b lockedTime=t",
    "storage.Bucket.iamConfiguration.uniformBucketLevelAccess enabled=b lockedTime=t",
    "storage.Bucket.ipFilter mode=s publicNetworkSource=Bucket.ipFilter.publicNetworkSource vpcNe"
    "tworkSources=[Bucket.ipFilter.vpcNetworkSources]",
    "storage.Bucket.ipFilter.publicNetworkSource allowedIpCidrRanges=[s]",
    "storage.Bucket.ipFilter.vpcNetworkSources allowedIpCidrRanges=[s] network=s",
    "storage.Bucket.lifecycle rule=[Bucket.lifecycle.rule]",
    "storage.Bucket.lifecycle.rule action=Bucket.lifecycle.rule.action condition=Bucket.lifecycle"
    ".rule.condition",
    "storage.Bucket.lifecycle.rule.action storageClass=s type=s",
    "storage.Bucket.lifecycle.rule.condition age=i createdBefore=s customTimeBefore=s daysSinceCu"
    "stomTime=i daysSinceNoncurrentTime=i isLive=b matchesPattern=s matchesPrefix=[s] matchesStor"
    "ageClass=[s] matchesSuffix=[s] noncurrentTimeBefore=s numNewerVersions=i",
    "storage.Bucket.logging logBucket=s logObjectPrefix=s",
    "storage.Bucket.objectRetention mode=s",
    "storage.Bucket.owner entity=s entityId=s",
    "storage.Bucket.retentionPolicy effectiveTime=t isLocked=b retentionPeriod=l",
    "storage.Bucket.softDeletePolicy effectiveTime=t retentionDurationSeconds=l",
    "storage.Bucket.versioning enabled=b",
    "storage.Bucket.website mainPageSuffix=s notFoundPage=s",
    "storage.Policy bindings=[Policy.bindings] etag=y kind=s resourceId=s version=i",
    "storage.Policy.bindings condition=Expr members=[s] role=s",
    "storage.Expr description=s expression=s location=s title=s",
    "storage.ComposeRequest destination=Object kind=s sourceObjects=[ComposeRequest.sourceObjects"
    "]",
    "storage.Object acl=[ObjectAccessControl] bucket=s cacheControl=s componentCount=i contentDis"
    "position=s contentEncoding=s contentLanguage=s contentType=s crc32c=s customTime=t customerE"
    "ncryption=Object.customerEncryption etag=s eventBasedHold=b generation=l hardDeleteTime=t id"
    "=s kind=s kmsKeyName=s md5Hash=s mediaLink=s metadata={s} metageneration=l name=s owner=Obje"
    "ct.owner restoreToken=s retention=Object.retention retentionExpirationTime=t selfLink=s size"
    "=l softDeleteTime=t storageClass=s temporaryHold=b timeCreated=t timeDeleted=t timeFinalized"
    "=t timeStorageClassUpdated=t updated=t",
    "storage.Object.customerEncryption encryptionAlgorithm=s keySha256=s",
    "storage.Object.owner entity=s entityId=s",
    "storage.Object.retention mode=s retainUntilTime=t",
    "storage.ComposeRequest.sourceObjects generation=l name=s objectPreconditions=ComposeRequest."
    "sourceObjects.objectPreconditions",
    "storage.ComposeRequest.sourceObjects.objectPreconditions ifGenerationMatch=l",
    NULL,
};
